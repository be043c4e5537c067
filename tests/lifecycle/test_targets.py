"""What an update does to Deployments, and what it leaves to others."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lifecycle.declared import SPEC, TWO_TARGETS
from lifecycle.world import (
    World,
    digest,
    target_removed_during_a_rollout,
    two_targets_on_generation_one,
    with_generation_one,
)

from springtide_operator.lifecycle.state.observed import ObservedTarget


def test_a_deployment_of_another_update_is_not_changed() -> None:
    world = World()
    world.target = replace(world.target, claimed_by="other")
    world.settle()
    stalled = next(c for c in world.update.status.conditions if c.type == "Stalled")
    assert stalled.reason == "TargetClaimed"
    assert "other" in stalled.message
    assert world.target.claimed_by == "other"


def test_removed_fields_are_reapplied_three_times_an_hour_then_reported() -> None:
    world = with_generation_one()
    for _ in range(5):
        world.target = replace(world.target, digest=None, number=None)
        world.settle()
        world.finish_rollouts()
    assert len(world.served) == 1 + 3
    sync = next(c for c in world.update.status.conditions if c.type == "TargetsInSync")
    assert (sync.status, sync.reason) == ("False", "FieldsRemoved")
    assert "exclude both variables there; they are applied again at 13:" in sync.message


@pytest.mark.parametrize("how", ["missing", "of another update", "without the container"])
def test_a_target_that_cannot_be_used_keeps_no_other_without_a_model(how: str) -> None:
    world = two_targets_on_generation_one()
    other = world.targets["reranker"]
    world.targets["reranker"] = {
        "missing": ObservedTarget(target=other.target),
        "of another update": replace(other, claimed_by="other"),
        "without the container": replace(other, has_container=False, digest=None, number=None),
    }[how]
    before = world.targets["reranker"]
    world.target = replace(world.target, digest=None, number=None)
    world.settle()
    assert world.target.number == 1
    assert world.targets["reranker"] == before
    assert world.condition("Stalled").status == "True"


def test_a_foreign_value_is_never_overwritten() -> None:
    world = with_generation_one()
    served = list(world.served)
    world.target = replace(world.target, digest=digest("theirs"))
    world.months.append("2025-03")
    world.rounds(4)
    assert world.served == served
    sync = next(c for c in world.update.status.conditions if c.type == "TargetsInSync")
    assert sync.reason == "FieldConflict"


def test_the_owner_of_our_variables_is_named_with_the_command_to_remove_them() -> None:
    world = with_generation_one()
    world.target = replace(world.target, foreign_manager="kubectl-rollout")
    world.settle()
    sync = next(c for c in world.update.status.conditions if c.type == "TargetsInSync")
    assert sync.reason == "FieldConflict"
    assert "kubectl-rollout sets MODEL_URI or MODEL_DIGEST" in sync.message
    assert (
        "kubectl set env deployment/ranker --containers=server MODEL_URI- MODEL_DIGEST-"
        in sync.message
    )


def test_a_foreign_value_that_is_not_a_digest_is_reported_too() -> None:
    world = with_generation_one()
    world.target = replace(world.target, digest="mine")
    world.settle()
    sync = next(c for c in world.update.status.conditions if c.type == "TargetsInSync")
    assert sync.reason == "FieldConflict"
    assert "runs mine" in sync.message
    assert world.update.status.targets[0].digest is None


def test_a_target_removed_from_the_spec_before_anything_is_live_loses_our_fields() -> None:
    world = World(spec={**SPEC, **TWO_TARGETS})
    world.pods_ready = False
    world.settle()
    world.months = ["2025-01", "2025-02"]
    rollout = world.spec["rollout"]
    while world.targets["reranker"].number != 1:
        world.round()
    world.edit(rollout={**rollout, "targets": rollout["targets"][:1]})
    world.rounds(8)
    assert [t.digest for t in world.targets.values()] == [None, None]


def test_an_older_digest_of_ours_set_by_another_client_stays() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.rounds(8)
    first = world.generation(1).status.artifact.served_digest
    world.target = replace(world.target, digest=first, number=1, foreign_manager="kubectl-rollout")
    world.rounds(2)
    assert world.target.digest == first
    sync = next(c for c in world.update.status.conditions if c.type == "TargetsInSync")
    assert sync.reason == "FieldConflict"


def test_a_removed_target_that_another_client_changed_is_not_changed() -> None:
    world = target_removed_during_a_rollout()
    world.targets["reranker"] = replace(world.targets["reranker"], foreign_manager="helm")
    world.rounds(6)
    world.pods_ready = True
    world.rounds(2)
    assert [t.number for t in world.targets.values()] == [1, 2]
    assert world.generation(2).status.outcome == "RolledBack"


@pytest.mark.parametrize("waits_for", ["suspend", "the other target"])
def test_removed_fields_are_restored_while_an_accepted_generation_waits(waits_for: str) -> None:
    world = two_targets_on_generation_one()
    world.months.append("2025-03")
    world.pods_ready = False
    world.targets["ranker"] = replace(world.targets["ranker"], complete=False)
    world.rounds(8)
    if waits_for == "suspend":
        world.edit(suspend=True)
        world.targets["ranker"] = replace(world.targets["ranker"], complete=True)
        world.settle()
    assert world.generation(2).status.phase == "Accepted"
    target = world.targets["reranker"]
    world.targets["reranker"] = replace(target, digest=None, number=None, uri=None)
    world.settle()
    assert [each.number for each in world.targets.values()] == [1, 1]
    assert world.generation(2).status.phase == "Accepted"


@pytest.mark.survives(
    "Deployments",
    "the pods of the live generation crash after its fields were removed and applied again",
    "the next generation rolls out, because the owner changed nothing",
)
def test_pods_of_live_that_crash_after_a_restore_do_not_block_the_next_generation() -> None:
    world = World()
    world.target = replace(world.target, template=digest("owner's"))
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    world.pods_ready = False
    world.target = replace(world.target, digest=None, number=None, uri=None)
    world.settle()
    world.target = replace(world.target, stalled="ProgressDeadlineExceeded")
    world.months.append("2025-03")
    world.rounds(5)
    assert world.target.number == 2
