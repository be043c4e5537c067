"""What users and other clients do to targets, update and generations during a canary."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from lifecycle.canary_scenes import STEPS, later, set_strategy, started, strategy, with_live

from springtide_operator.lifecycle.state.observed import ObservedTarget

if TYPE_CHECKING:
    from lifecycle.world import World


def step(world: World) -> int | None:
    return world.generation(2).status.rollout.step


def test_a_deleted_target_holds_the_step_and_gets_live_when_it_is_created_again() -> None:
    world = started()
    gone = world.target
    world.target = ObservedTarget(target=gone.target)
    later(world, 60)
    assert (step(world), len(world.canaries)) == (1, 1)
    assert world.condition("Stalled").reason == "TargetNotFound"
    world.create_target()
    world.target = replace(world.target, desired=9, template=gone.template)
    later(world, 2)
    assert world.target.number == 1
    later(world, 40)
    assert world.generation(2).status.outcome == "Live"


def test_a_paused_target_holds_the_step_and_no_deadline_passes() -> None:
    world = started(ready=False)
    world.target = replace(world.target, paused=True)
    later(world, 60)
    assert (step(world), world.generation(2).status.rollout.rollback_reason) == (1, "")
    world.target = replace(world.target, paused=False)
    world.canary_pods_ready = True
    later(world, 2)
    assert world.generation(2).status.rollout.weight_seen_at is not None


def test_what_holds_a_step_keeps_no_target_without_the_live_generation() -> None:
    world = started(two=True)
    world.targets["reranker"] = replace(world.targets["reranker"], paused=True)
    later(world, 2)
    world.target = replace(world.target, digest=None, number=None)
    later(world, 2)
    assert (world.target.number, step(world)) == (1, 1)
    assert world.condition("ActionRequired").reason == "TargetPaused"


def test_a_refused_apply_of_live_does_not_use_the_time_of_a_step_that_is_held() -> None:
    world = started(two=True)
    world.targets["reranker"] = replace(world.targets["reranker"], paused=True)
    world.refusing = {"Deployment ranker": "WriteRefused"}
    world.target = replace(world.target, digest=None, number=None)
    later(world, 60)
    assert (step(world), world.generation(2).status.rollout.rollback_reason) == (1, "")
    world.refusing = {}
    later(world, 2)
    assert world.target.number == 1


def test_values_of_another_client_hold_the_step_and_its_canary_stays() -> None:
    world = started()
    world.target = replace(world.target, foreign_manager="helm")
    later(world, 60)
    assert (step(world), len(world.canaries)) == (1, 1)
    assert world.condition("TargetsInSync").reason == "FieldConflict"
    world.ask("rollback.g2@1")
    later(world, 1)
    assert not world.canaries
    assert world.generation(2).status.outcome == "RolledBack"


def test_a_client_that_edits_every_canary_is_not_raced_and_is_reported() -> None:
    world = started()
    edited = []
    for _ in range(12):
        world.edit_canary("ranker-canary", by="policy-controller")
        world.settle()
        edited.append(world.canary.uid)
        world.now += timedelta(seconds=10)
    assert len({*edited}) <= 5
    for _ in range(2):
        world.edit_canary("ranker-canary", by="policy-controller")
        world.settle()
    found = world.condition("ActionRequired")
    assert "policy-controller changed its pod template" in found.message


def test_time_in_a_hold_does_not_count_for_pods_that_were_not_available() -> None:
    world = started()
    world.crash_canaries()
    later(world, 5)
    world.target = replace(world.target, paused=True)
    later(world, 60)
    world.target = replace(world.target, paused=False)
    later(world, 5)
    assert world.generation(2).status.rollout.rollback_reason == ""
    later(world, 10)
    assert world.generation(2).status.outcome == "RolledBack"


def test_a_generation_that_an_approver_rejects_during_a_step_loses_its_canary() -> None:
    world = started()
    world.set_approval("shop-g2", "Rejected", "prices look wrong")
    world.settle()
    assert not world.canaries
    assert "prices look wrong" in world.generation(2).status.rollout.rollback_reason


def test_a_canary_that_started_goes_on_in_another_mode() -> None:
    world = started()
    world.edit(mode="Observe")
    later(world, 40)
    assert world.generation(2).status.outcome == "Live"
    assert not world.canaries


def test_a_canary_of_a_generation_with_a_value_of_another_version_is_left_alone() -> None:
    world = started()
    world.set_status_values("shop-g2", phase="Shadowed")
    later(world, 30)
    assert (step(world), len(world.canaries)) == (1, 1)


def test_a_clock_that_is_set_back_starts_the_time_of_the_step_again() -> None:
    world = started()
    world.now -= timedelta(days=30)
    world.settle()
    assert world.generation(2).status.rollout.weight_seen_at == world.now


def test_an_operator_that_was_away_since_the_start_of_a_step_gives_its_pods_their_time() -> None:
    world = with_live()
    world.canary_pods_ready = False
    world.months.append("2025-03")
    while not world.canaries:
        world.round()
    world.canaries.clear()
    world.now = world.generation(2).status.rollout.deadline + timedelta(hours=5)
    world.settle()
    assert world.generation(2).status.rollout.rollback_reason == ""
    assert world.generation(2).status.rollout.deadline > world.now


def test_a_canary_of_an_earlier_generation_is_deleted_before_another_starts() -> None:
    world = started()
    left = dict(world.canaries)
    world.ask("rollback.g2@1")
    later(world, 1)
    world.canaries |= left
    world.months.append("2025-04")
    world.ask("retry@2")
    later(world, 1)
    assert world.canaries == {}


def test_a_pin_to_live_alone_removes_the_canary_though_no_target_changes() -> None:
    world = started()
    served = list(world.served)
    world.pin(1)
    world.settle()
    assert (world.canaries, world.served) == ({}, served)
    assert world.update.status.phase == "Pinned"


def test_a_bake_follows_the_canary_and_the_next_canary_follows_the_bake() -> None:
    world = with_live()
    set_strategy(world, STEPS[1], bake={"duration": "30m"})
    world.months.append("2025-03")
    while not world.canaries:
        world.round()
    later(world, 25)
    assert world.update.status.phase == "Baking"
    world.months.append("2025-04")
    world.rounds(4)
    assert not world.canaries
    assert world.generation(3).status.verdict == "Accepted"
    later(world, 30)
    assert {c.deployment.number for c in world.canaries.values()} == {3}


def test_the_strategy_is_no_part_of_the_recipe() -> None:
    world = with_live()
    before = world.generation(1).spec.recipe_hash
    world.edit(rollout={**world.spec["rollout"], **strategy({"weight": 20, "duration": "1m"})})
    world.months.append("2025-03")
    world.rounds(2)
    assert world.generation(2).spec.recipe_hash == before


def deadlines(world: World, minutes: int) -> list[datetime | None]:
    """Return the deadlines that a step had, minute by minute."""
    found = []
    for _ in range(minutes):
        later(world, 1)
        found.append(world.generation(2).status.rollout.deadline)
    return found


def test_a_refused_deletion_of_an_edited_canary_holds_the_step_and_its_deadline() -> None:
    world = started()
    world.refusing = {"deletion of Deployment ranker-canary": "WriteRefused"}
    world.edit_canary("ranker-canary", by="helm")
    later(world, 2)
    assert len({*deadlines(world, 60)}) == 1
    assert world.generation(2).status.rollout.held_since is not None
    assert world.condition("Stalled").reason == "WriteRefused"
    world.refusing = {}
    later(world, 3)
    assert world.generation(2).status.rollout.weight_seen_at is not None


def test_pods_have_no_more_time_after_a_long_hold_than_without_one() -> None:
    world = with_live()
    world.refusing = {"Deployment ranker-canary": "ApplyRefused"}
    world.months.append("2025-03")
    world.rounds(10)
    later(world, 240)
    assert world.generation(2).status.rollout.held_since is not None
    world.canary_pods_ready, world.refusing = False, {}
    later(world, 12)
    assert "rollout.deadline" in world.generation(2).status.rollout.rollback_reason
