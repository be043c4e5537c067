"""Several rollbacks in a row freeze an update until a user decides."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.invariants import Invariants
from lifecycle.world import World, after_promotions

from springtide_operator.lifecycle.maintenance import history


def frozen(after: int = 2) -> World:
    """Generation 1 is live; 2 was rolled back after its promotion, 3 missed its deadline."""
    world = after_promotions(2)
    world.edit(rollout={**world.spec["rollout"], "rollback": {"freezeAfter": after}})
    Invariants(world)
    world.ask("rollback.g2@1")
    world.rounds(2)
    world.months.append("2025-04")
    world.pods_ready = False
    world.ask("retry@2")
    world.rounds(14)
    world.pods_ready = True
    world.rounds(2)
    return world


@pytest.mark.survives(
    "Deployments",
    "several generations in a row are rolled back",
    "with `rollout.rollback.freezeAfter` no run and no rollout starts before `unfreeze`",
)
def test_two_rollbacks_in_a_row_freeze_the_update() -> None:
    world = frozen()
    assert world.generation(3).status.outcome == "RolledBack"
    found = world.condition("ActionRequired")
    assert (found.status, found.reason) == ("True", "Frozen")
    assert found.message == (
        "2 generations in a row were rolled back, the last shop-g2, shop-g3 "
        "(rollout.rollback.freezeAfter is 2); no run and no rollout starts: annotate "
        "springtide.dev/request=unfreeze@<token>"
    )
    assert world.update.status.phase == "Frozen"
    assert "Frozen" in world.announced
    world.months.append("2025-05")
    world.rounds(6)
    assert "shop-g4" not in world.generations
    world.ask("retry@3")
    world.rounds(4)
    assert world.update.status.last_request.message == (
        "the update is frozen; request unfreeze first"
    )
    assert world.update.status.live.number == 1


def test_a_frozen_update_offers_no_request_that_it_refuses() -> None:
    world = after_promotions(2)
    world.ask("rollback.g2@1")
    world.rounds(2)
    world.months.append("2025-04")
    world.aucs["2025-04"] = (0.55, 0.66)
    world.ask("retry@2")
    world.rounds(8)
    assert "request=retry@<token>" in world.condition("DataReady").message
    world.edit(rollout={**world.spec["rollout"], "rollback": {"freezeAfter": 1}})
    world.settle()
    assert world.condition("DataReady").message.endswith("(Rejected); the update is frozen")


def test_a_failed_import_of_a_frozen_update_asks_to_unfreeze_it_first() -> None:
    world = World(seeded=False)
    world.edit(rollout={**world.spec["rollout"], "rollback": {"freezeAfter": 1}})
    world.settle()
    world.rounds(2)
    world.months = ["2025-01", "2025-02"]
    while "shop-g1" not in world.generations:
        world.round()
    world.pods_ready = False
    world.rounds(14)
    world.pods_ready = True
    world.rounds(2)
    assert world.generation(1).status.outcome == "RolledBack"
    world.delete_generation("shop-g0")
    world.target = replace(world.target, digest=None, number=None)
    world.settle()
    (job,) = (name for name, job in world.jobs.items() if job.stage == "import")
    world.fail(job, 3, reason="InvalidInput")
    world.settle()
    assert world.update.status.progress.waiting_for.startswith(
        "shop-g2 failed; fix the cause and annotate springtide.dev/request=unfreeze@<token>, then "
        "retry; "
    )


def test_unfreeze_starts_runs_again_and_the_row_begins_anew() -> None:
    world = frozen()
    world.months.append("2025-05")
    world.ask("unfreeze@3")
    world.rounds(8)
    assert world.update.status.live.number == 4
    assert world.generation(3).status.unfrozen_at
    world.ask("unfreeze@4")
    world.rounds(1)
    last = world.update.status.last_request
    assert (last.result, last.message) == ("Refused", "the update is not frozen")


def test_a_crash_between_the_writes_of_unfreeze_gives_the_same_answer() -> None:
    world = frozen()
    world.edit(trigger={})
    world.ask("unfreeze@3")
    world.crash_after(1)
    at = world.generation(3).status.unfrozen_at
    world.settle()
    last = world.update.status.last_request
    assert (last.result, last.message) == (
        "Accepted",
        "the 2 rollbacks so far no longer count; runs and rollouts start again",
    )
    assert world.generation(3).status.unfrozen_at == at


def test_a_recreated_update_stays_frozen_and_stays_unfrozen() -> None:
    world = frozen()
    world.recreate()
    world.rounds(3)
    assert world.update.status.phase == "Frozen"
    world.ask("unfreeze@3")
    world.rounds(1)
    world.recreate()
    world.rounds(3)
    assert world.update.status.phase != "Frozen"


def test_a_promotion_that_holds_ends_the_row() -> None:
    world = frozen(after=3)
    assert world.condition("ActionRequired").status == "False"
    world.months.append("2025-05")
    world.rounds(8)
    assert world.update.status.live.number == 4
    world.months.append("2025-06")
    world.pods_ready = False
    world.rounds(14)
    world.pods_ready = True
    world.rounds(2)
    assert world.generation(5).status.outcome == "RolledBack"
    assert world.update.status.phase != "Frozen"


def test_generations_that_count_are_not_pruned() -> None:
    world = frozen(after=5)
    world.edit(history={"generations": 2, "rejected": 0}, trigger={})
    world.rounds(6)
    assert {"shop-g2", "shop-g3"} <= world.generations.keys()


def test_a_generation_that_records_the_end_of_a_freeze_is_not_pruned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(history, "MAX_STILL_NEEDED", 0)
    world = frozen()
    world.ask("unfreeze@3")
    world.months.append("2025-05")
    world.aucs["2025-05"] = (0.55, 0.66)
    world.rounds(6)
    assert world.generation(4).status.verdict == "Rejected"
    world.digests_elsewhere = frozenset({world.generation(2).status.artifact.served_digest})
    world.edit(
        history={"generations": 2, "rejected": 0},
        trigger={},
        rollout={**world.spec["rollout"], "rollback": {"freezeAfter": 1}},
    )
    world.rounds(6)
    assert world.generation(3).status.unfrozen_at
    assert world.update.status.phase != "Frozen"


def test_a_rollback_counts_where_the_clock_was_set_back_before_the_promotion() -> None:
    world = after_promotions(2)
    world.edit(rollout={**world.spec["rollout"], "rollback": {"freezeAfter": 1}})
    world.now -= timedelta(days=3)
    world.ask("rollback.g2@1")
    world.rounds(2)
    assert world.update.status.phase == "Frozen"
    world.ask("unfreeze@2")
    world.rounds(2)
    assert world.update.status.last_request.result == "Accepted"
    assert world.update.status.phase != "Frozen"


def test_an_accepted_generation_that_waits_for_unfreeze_is_shown_as_frozen() -> None:
    world = frozen(after=5)
    world.edit(gate={**world.spec["gate"], "approval": "Manual"})
    world.months.append("2025-05")
    world.ask("retry@3")
    world.rounds(14)
    assert world.update.status.phase == "AwaitingApproval"
    world.edit(rollout={**world.spec["rollout"], "rollback": {"freezeAfter": 2}})
    world.rounds(2)
    assert world.update.status.phase == "Frozen"
    assert world.condition("ActionRequired").reason == "Frozen"
    world.ask("unfreeze@4")
    world.rounds(2)
    assert world.update.status.phase == "AwaitingApproval"
