"""How a rollout is rolled back, on which targets and when it completes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.declared import TWO_TARGETS
from lifecycle.world import (
    World,
    digest,
    end_of,
    stuck_in_a_rollout,
    target_removed_during_a_rollout,
    two_targets_on_generation_one,
    with_generation_one,
)


@pytest.mark.survives(
    "Deployments",
    "new pods never become ready",
    "every target is rolled back to the live generation at the deadline",
)
def test_pods_that_never_get_ready_roll_back_every_target_to_live() -> None:
    world = with_generation_one()
    live = world.served[-1]
    world.pods_ready = False
    world.months.append("2025-03")
    world.rounds(10)
    second = world.generation(2)

    assert "0 of 2 new pods available after 10m" in second.status.rollout.rollback_reason
    assert world.served[-1] == live
    world.pods_ready = True
    world.rounds(2)
    assert world.generation(2).status.rollout.rolled_back_at is not None
    assert world.update.status.live.name == "shop-g1"
    assert world.update.status.cursor.trained_through == end_of("2025-01")


def test_a_changed_template_without_our_variables_gets_them_before_the_rollout_waits_for_it() -> (
    None
):
    world = stuck_in_a_rollout()
    lost = {"digest": None, "number": None}
    world.target = replace(world.target, template=digest("another"), **lost)
    world.settle()
    assert world.target.number == 2
    assert world.generation(2).status.rollout.held_since


@pytest.mark.survives(
    "Deployments",
    "the first rollout fails",
    "our fields are removed; the Deployment runs what it ran before",
)
def test_a_first_rollout_that_fails_removes_our_fields() -> None:
    world = World()
    world.pods_ready = False
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(14)

    assert world.generation(1).status.rollout.rollback_reason
    assert world.target.digest is None


def test_a_rollback_names_the_deadline_of_its_start_not_an_edited_one() -> None:
    world = stuck_in_a_rollout()
    world.edit(rollout={**world.spec["rollout"], "deadline": "2h"})
    world.rounds(8)
    reason = world.generation(2).status.rollout.rollback_reason
    assert "after 10m (rollout.deadline)" in reason


def test_a_rollout_whose_fields_are_removed_repeatedly_waits_and_is_not_rolled_back() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.pods_ready = False
    while world.target.number != 2:
        world.round()
    due = world.generation(2).status.rollout.deadline
    for _ in range(3):
        world.target = replace(world.target, digest=None, number=None)
        world.now += timedelta(minutes=2)
        world.settle()
    assert world.generation(2).status.rollout.deadline == due
    world.target = replace(world.target, digest=None, number=None)
    world.rounds(8)
    assert world.generation(2).status.rollout.held_since
    assert world.generation(2).status.rollout.rollback_reason == ""
    assert world.condition("ActionRequired").reason == "FieldsRemoved"
    world.pods_ready = True
    world.rounds(30)
    assert world.generation(2).status.outcome == "Live"


@pytest.mark.survives(
    "Deployments",
    "a Deployment is removed from `rollout.targets` during a rollout that is rolled back, and "
    "added again later",
    "it is rolled back with the others, without a `FieldConflict`, and the next rollout "
    "includes it",
)
def test_a_target_removed_from_the_spec_during_a_rollout_is_rolled_back_with_the_others() -> None:
    world = target_removed_during_a_rollout()
    world.rounds(6)
    world.pods_ready = True
    world.rounds(2)
    assert [t.number for t in world.targets.values()] == [1, 1]
    assert world.generation(2).status.rollout.rolled_back_at

    events_before = len(world.events)
    world.edit(rollout=TWO_TARGETS["rollout"])
    world.rounds(1)
    assert "FieldConflict" not in world.events[events_before:]
    world.months.append("2025-04")
    world.rounds(6)
    assert [t.number for t in world.targets.values()] == [3, 3]


def test_a_deleted_update_rolls_back_a_target_removed_during_the_rollout() -> None:
    world = target_removed_during_a_rollout()
    world._meta(deletion_timestamp=world.now)
    world.rounds(3)
    assert [t.number for t in world.targets.values()] == [1, 1]
    assert world.update.metadata.finalizers == ()


def test_a_rollback_changes_no_deployment_that_another_update_claims() -> None:
    world = stuck_in_a_rollout()
    while not world.generation(2).status.rollout.rollback_reason:
        world.now += timedelta(minutes=1)
        world.step()
    targets = [{"targetRef": {"name": n}, "container": "server"} for n in ("ranker", "reranker")]
    world.edit(rollout={"targets": targets, "deadline": "10m"})
    world.create_target("reranker")
    world.targets["reranker"] = theirs = replace(world.targets["reranker"], claimed_by="another")
    world.pods_ready = True
    world.rounds(3)
    assert world.targets["reranker"] == theirs
    assert world.target.number == 1
    assert world.condition("Stalled").reason == "TargetClaimed"


@pytest.mark.parametrize("changed", ["ranker", "reranker"])
def test_a_rollback_is_blocked_only_on_the_target_that_another_client_set(changed: str) -> None:
    world = two_targets_on_generation_one()
    world.months.append("2025-03")
    world.pods_ready = False
    while not any(g.status.rollout.rollback_reason for g in world.generations.values()):
        world.now += timedelta(minutes=1)
        world.complete_jobs()
        world.step()
    world.targets[changed] = replace(world.targets[changed], digest=digest("theirs"))
    world.pods_ready = True
    world.rounds(3)
    other = next(name for name in world.targets if name != changed)
    assert (world.targets[other].number, world.targets[changed].digest) == (1, digest("theirs"))
    assert world.condition("TargetsInSync").reason == "FieldConflict"
    assert world.update.status.phase == "RollingBack"


@pytest.mark.survives(
    "Deployments",
    "after a rollback the pods of the live generation crash, too",
    "the rollback ends once the Deployment itself reports no progress, so that the next generation "
    "can be trained and served",
)
def test_a_rollback_completes_although_the_pods_of_live_never_get_available() -> None:
    world = stuck_in_a_rollout()
    world.rounds(8)
    assert (world.target.number, world.update.status.phase) == (1, "RollingBack")
    world.target = replace(world.target, stalled="ProgressDeadlineExceeded")
    world.rounds(8)
    assert world.generation(2).status.outcome == "RolledBack"
    assert world.condition("Serving").status == "False"
    world.months.append("2025-04")
    world.pods_ready = True
    world.rounds(8)
    assert world.update.status.live.number == 3


def on_one_target_of_two() -> World:
    """A rollout of generation 2 to ranker; reranker is there and was no target when it began."""
    world = stuck_in_a_rollout()
    both = [{"targetRef": {"name": n}, "container": "server"} for n in ("ranker", "reranker")]
    world.edit(rollout={"targets": both, "deadline": "10m"})
    world.create_target("reranker")
    world.settle()
    assert world.targets["reranker"].number == 2
    return world


@pytest.mark.survives(
    "Deployments",
    "a Deployment becomes a target during a rollout and leaves the spec again before its end",
    "it is rolled back with the others",
)
def test_a_target_added_and_removed_during_a_rollout_is_rolled_back() -> None:
    world = on_one_target_of_two()
    world.edit(rollout={"targets": world.spec["rollout"]["targets"][:1], "deadline": "10m"})
    world.rounds(8)
    assert world.generation(2).status.rollout.rollback_reason
    assert [target.number for target in world.targets.values()] == [1, 1]
