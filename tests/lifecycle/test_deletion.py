"""The deletion of an update, during a rollout and otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lifecycle.declared import SPEC, TWO_TARGETS
from lifecycle.world import MONTHS, World, after_promotions, digest

from springtide_api.names import FINALIZER
from springtide_operator.lifecycle.decide import decide
from springtide_operator.lifecycle.state.plan import SetFinalizer


def test_the_finalizer_is_present_only_during_a_rollout() -> None:
    world = World()
    world.pods_ready = False
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(6)
    assert world.update.status.phase == "RollingOut"
    assert world.update.metadata.finalizers == (FINALIZER,)
    world.pods_ready = True
    world.rounds(2)
    assert world.update.metadata.finalizers == ()


def test_an_update_deleted_during_a_rollout_is_rolled_back_before_it_is_deleted() -> None:
    world = after_promotions(1)
    live = world.served[-1]
    world.pods_ready = False
    world.months = [*world.months, "2025-03"]
    world.rounds(5)
    assert world.served[-1] != live
    world._meta(deletion_timestamp=world.now)
    world.pods_ready = True
    world.rounds(2)
    assert world.served[-1] == live
    assert world.update.metadata.finalizers == ()


def test_in_a_terminating_namespace_the_finalizer_is_removed_at_once() -> None:
    world = World()
    world.pods_ready = False
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(6)
    world._meta(deletion_timestamp=world.now)
    plan = decide(replace(world.seen(), namespace_terminating=True), world.now)
    assert plan.actions == (SetFinalizer(present=False),)


def test_generations_are_owned_by_their_update_only_with_deletion_policy_delete() -> None:
    for policy, owned in (("Orphan", False), ("Delete", True)):
        world = World()
        world.edit(deletionPolicy=policy)
        made = []
        for _ in range(4):
            made += [a for a in world.step().actions if hasattr(a, "owned")]
        assert [action.owned for action in made] == [owned]


@pytest.mark.survives(
    "People",
    "`deletionPolicy` is changed",
    "the generations that exist follow at once: with Orphan they outlive the update",
)
@pytest.mark.parametrize(("before", "after"), [("Delete", "Orphan"), ("Orphan", "Delete")])
def test_generations_that_exist_follow_a_changed_deletion_policy(before: str, after: str) -> None:
    world = World(spec={**SPEC, "deletionPolicy": before})
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    uid = world.update.metadata.uid
    for policy in (before, after):
        world.edit(deletionPolicy=policy)
        world.settle()
        owners = [g.metadata.owner_references for g in world.generations.values()]
        assert len(owners) == 2
        for each in owners:
            assert [owner.uid for owner in each] == ([uid] if policy == "Delete" else [])
    assert world.events.count("Adopted") == 0


def deleted_in_a_roll() -> World:
    world = after_promotions(1)
    world.months = [*world.months, "2025-03"]
    world.pods_ready = False
    while world.target.number != 2:
        world.round()
    world._meta(deletion_timestamp=world.now)
    return world


@pytest.mark.survives(
    "People",
    "the update is deleted in the middle of a roll, and the pods of live do not all get ready"
    " again",
    "gone once no target asks for the pods of the roll; the rest is the Deployment's",
)
def test_an_update_deleted_in_a_rollout_does_not_wait_for_the_pods_of_live() -> None:
    world = deleted_in_a_roll()
    world.settle()
    assert world.target.number == 1
    assert world.target.available == 0
    assert world.update.metadata.finalizers == ()
    assert world.generation(2).status.rollout.rolled_back_at


@pytest.mark.survives(
    "People",
    "the update is deleted during a rollout, and another client set our variables",
    "gone; the other value stays, and `RollbackIncomplete` names it and its field manager if known",
)
@pytest.mark.parametrize(
    "change", [{"foreign_manager": "helm"}, {"digest": digest("theirs")}], ids=["taken", "set"]
)
def test_an_update_deleted_in_a_rollout_leaves_values_of_other_clients(change: dict) -> None:
    world = deleted_in_a_roll()
    world.target = replace(world.target, **change)
    carried = world.target.digest
    said = []
    for _ in range(4):
        said += [event for event in world.step().events if event.reason == "RollbackIncomplete"]
    assert world.target.digest == carried
    assert world.update.metadata.finalizers == ()
    (event,) = said
    assert f"Deployment ranker (MODEL_DIGEST={carried}" in event.message
    assert change.get("foreign_manager", "") in event.message


def test_an_update_deleted_in_a_rollout_leaves_a_target_that_another_update_claims() -> None:
    """It was claimed by its label alone, so it still runs what is rolled back."""
    world = deleted_in_a_roll()
    world.claim_by_another("ranker", serves=False)
    said = []
    for _ in range(4):
        said += [event for event in world.step().events if event.reason == "RollbackIncomplete"]
    assert world.target.number == 2
    assert world.update.metadata.finalizers == ()
    assert "Deployment ranker (MODEL_DIGEST=" in said[0].message


def test_an_update_deleted_in_a_rollout_rolls_back_what_it_can() -> None:
    world = World(spec={**SPEC, **TWO_TARGETS})
    world.settle()
    world.months = MONTHS[:2]
    world.rounds(8)
    world.months = MONTHS[:3]
    world.pods_ready = False
    while world.target.number != 2:
        world.round()
    world.target = replace(world.target, foreign_manager="helm")
    world._meta(deletion_timestamp=world.now)
    world.settle()
    assert [t.number for t in world.targets.values()] == [2, 1]
    assert world.update.metadata.finalizers == ()


def test_an_update_deleted_after_its_fields_were_removed_too_often_is_gone() -> None:
    world = deleted_in_a_roll()
    reapplied = [world.now] * 3
    targets = [
        t.model_copy(update={"reapplied_at": reapplied}) for t in world.update.status.targets
    ]
    status = world.update.status.model_copy(update={"targets": targets})
    world.update = world.update.model_copy(update={"status": status})
    world.target = replace(world.target, digest=None, number=None)
    world.settle()
    assert world.update.metadata.finalizers == ()
