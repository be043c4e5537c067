"""After the rollback of a promoted generation no run starts before its rows are decided on."""

from __future__ import annotations

import pytest
from lifecycle.invariants import Invariants
from lifecycle.world import World, after_promotions, end_of


def on_generation_two(**rollback: object) -> World:
    world = after_promotions(2)
    Invariants(world)
    if rollback:
        world.edit(rollout={**world.spec["rollout"], "rollback": rollback})
    return world


def rolled_back(**rollback: object) -> World:
    """Generation 2, which was trained on 2025-02, was rolled back; newer data is there."""
    world = on_generation_two(**rollback)
    world.ask("rollback.g2@1")
    world.months.append("2025-04")
    world.rounds(8)
    assert world.generation(2).status.outcome == "RolledBack"
    return world


@pytest.mark.survives(
    "Data",
    "a promoted generation is rolled back, and its rows would be in the next window again",
    "no run starts before `quarantine` or `retry` is requested, or "
    "`rollout.rollback.quarantineWindow` leaves them out at once",
)
def test_no_run_starts_after_the_rollback_of_a_promoted_generation() -> None:
    world = rolled_back()
    found = world.condition("ActionRequired")
    assert (found.status, found.reason) == ("True", "RolledBackAfterPromotion")
    assert found.message == (
        "shop-g2 was rolled back after its promotion, and no run starts on the rows that it was "
        "trained on: annotate springtide.dev/request=quarantine@<token> to leave 2025-02 out, or "
        "retry@<token> to train on them again"
    )
    assert world.update.status.phase == "OnHold"
    assert world.update.status.progress.summary == "held: RolledBackAfterPromotion"
    assert world.update.status.cursor.proposed_for_quarantine == ["2025-02"]
    assert "shop-g3" not in world.generations
    world.ask("run@2")
    world.rounds(4)
    assert "shop-g3" not in world.generations


def test_a_quarantine_leaves_the_window_out_and_the_next_run_starts() -> None:
    world = rolled_back()
    world.ask("quarantine@2")
    world.rounds(8)
    third = world.generation(3)
    assert third.spec.data.quarantined == ["2025-02"]
    assert third.spec.data.partitions == ["2025-03"]
    assert third.spec.data.windows[0].from_ == end_of("2025-01")
    assert world.update.status.live.number == 3
    assert world.condition("ActionRequired").status == "False"


def test_a_release_after_the_quarantine_does_not_bring_the_hold_back() -> None:
    world = rolled_back()
    world.edit(trigger={})
    world.ask("quarantine@2")
    world.rounds(2)
    world.ask("release@3")
    world.rounds(2)
    assert world.condition("ActionRequired").status == "False"
    assert world.update.status.cursor.proposed_for_quarantine == []


def test_retry_trains_on_the_rows_again() -> None:
    world = rolled_back()
    world.ask("retry@2")
    world.rounds(8)
    assert world.generation(3).spec.data.partitions == ["2025-02", "2025-03"]
    assert world.update.status.live.number == 3
    assert world.condition("ActionRequired").status == "False"


def test_quarantine_window_leaves_the_rows_out_at_once() -> None:
    world = rolled_back(quarantineWindow=True)
    assert "WindowQuarantined" in world.events
    assert world.update.status.cursor.quarantined == ["2025-02"]
    assert world.update.status.live.number == 3
    assert world.generation(3).spec.data.partitions == ["2025-03"]
    assert world.condition("ActionRequired").status == "False"
    world.ask("release@2")
    world.rounds(2)
    assert world.update.status.cursor.quarantined == []


def test_a_window_that_does_not_fit_into_the_quarantine_is_held() -> None:
    world = on_generation_two(quarantineWindow=True)
    cursor = world.update.status.cursor
    months = [*(f"2020-{m:02d}" for m in range(1, 13)), *(f"2021-0{m}" for m in range(1, 5))]
    full = cursor.model_copy(update={"quarantined": months})
    world.update = world.update.model_copy(
        update={"status": world.update.status.model_copy(update={"cursor": full})}
    )
    world.ask("rollback.g2@1")
    world.rounds(3)
    found = world.condition("ActionRequired")
    assert found.reason == "RolledBackAfterPromotion"
    assert found.message.endswith(
        "annotate springtide.dev/request=retry@<token> to train on them again; 17 partitions would "
        "be quarantined (16 are), and at most 16 can be"
    )
    world.ask("quarantine@2")
    world.rounds(1)
    assert world.update.status.last_request.result == "Refused"


def test_a_suspended_update_names_retry_for_later() -> None:
    world = on_generation_two()
    world.edit(suspend=True)
    world.ask("rollback.g2@1")
    world.rounds(2)
    message = world.condition("ActionRequired").message
    assert message.endswith(
        "quarantine@<token> to leave 2025-02 out; retry@<token> to train on them again once "
        "spec.suspend is false"
    )


def test_two_generations_rolled_back_are_decided_on_together() -> None:
    world = after_promotions(3)
    Invariants(world)
    world.edit(trigger={})
    world.ask("rollback.g3@1")
    world.rounds(2)
    world.ask("rollback.g2@2")
    world.rounds(2)
    assert world.update.status.live.number == 1
    assert world.update.status.cursor.proposed_for_quarantine == ["2025-02", "2025-03"]
    world.months.append("2025-05")
    world.ask("quarantine@3")
    world.rounds(2)
    world.ask("run@4")
    world.rounds(8)
    assert world.generation(4).spec.data.partitions == ["2025-04"]
    assert world.update.status.live.number == 4


def test_a_later_promotion_ends_the_hold_for_good() -> None:
    world = rolled_back()
    world.ask("retry@2")
    world.rounds(8)
    world.recreate()
    world.rounds(4)
    assert world.condition("ActionRequired").status == "False"


def test_a_recreated_update_holds_again_and_quarantines_nothing_by_itself() -> None:
    world = rolled_back()
    world.recreate()
    world.rounds(4)
    assert world.condition("ActionRequired").reason == "RolledBackAfterPromotion"


def test_a_rollout_that_missed_its_deadline_does_not_hold() -> None:
    world = on_generation_two()
    world.pods_ready = False
    world.months.append("2025-04")
    world.rounds(12)
    assert world.generation(3).status.rollout.rollback_reason
    world.pods_ready = True
    world.rounds(2)
    assert world.condition("ActionRequired").status == "False"
    assert world.update.status.cursor.proposed_for_quarantine == []
