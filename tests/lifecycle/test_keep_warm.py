"""Pods of the previous generation are kept warm in a bake, and go with it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from lifecycle.canary_scenes import STEPS, later
from lifecycle.gateway_scenes import TARGET, gateway, rollout_of, with_live
from lifecycle.warm_scenes import QUOTA, WARM, ask_for_a_rollback, baking, notes, warm

if TYPE_CHECKING:
    from lifecycle.world import World


def test_after_the_promotion_the_canary_runs_as_many_pods_of_the_previous_generation() -> None:
    world = warm()
    assert (world.canary.number, world.canary.desired) == (1, 9)
    assert world.canary.digest == world.generation(1).status.artifact.served_digest
    assert world.weights() == (100, 0)
    assert world.target.number == 2
    assert "KeptWarm" in world.events
    assert world.update.status.phase == "Baking"
    assert "pods of shop-g1 are kept warm" in world.update.status.progress.waiting_for
    assert world.condition("ActionRequired").status == "False"


def test_metrics_show_how_many_pods_are_kept_warm_and_how_many_are_lacking() -> None:
    def counted(world: World) -> tuple[int, int]:
        return world.plan.warm_pods, world.plan.warm_pods_missing

    world = baking()
    assert counted(world) == (0, 9)
    world.change_canary("ranker-canary", available=4)
    world.canary_pods_ready = False
    world.settle()
    assert counted(world) == (4, 5)
    world.canary_pods_ready = True
    world.finish_canaries()
    world.settle()
    assert counted(world) == (9, 0)
    ask_for_a_rollback(world)
    assert counted(world) == (9, 0), "they serve"
    world.pods_ready = True
    later(world, 2)
    assert counted(world) == (0, 0)


def test_after_the_bake_warm_pods_are_deleted_and_the_route_is_not_written() -> None:
    world = warm()
    noted = notes(world)
    world.now = rollout_of(world).bake_until
    world.settle()
    assert noted == [("deleted", (100, 0))]
    assert not world.canaries
    assert world.update.metadata.finalizers == ()
    assert rollout_of(world).baked_at == world.now


def test_promote_ends_the_bake_and_with_it_the_warm_pods() -> None:
    world = warm()
    world.ask("promote.g2@good")
    world.settle()
    assert not world.canaries


def test_warm_pods_are_rescaled_with_the_target() -> None:
    world = warm()
    for desired in (20, 4):
        world.target = replace(world.target, desired=desired)
        world.settle()
        assert world.canary.desired == desired


@pytest.mark.survives(
    "Routes",
    "a quota or admission refuses warm pods, or the write of their Deployment",
    "the bake ends in its time and runs go on; ActionRequired has the refusal; a rollback is the "
    "rolling update",
)
@pytest.mark.parametrize("what", ["pods", "Deployment", "finalizer"])
def test_refused_warm_pods_hold_nothing_else_up(what: str) -> None:
    world = baking()
    if what == "pods":
        world.canary_pods_ready = False
        trouble = {"available": 0, "trouble": QUOTA, "stalled": "it exceeded its deadline"}
        world.change_canary("ranker-canary", **trouble)
    else:
        del world.canaries["ranker-canary"]
        world._meta(finalizers=() if what == "finalizer" else world.update.metadata.finalizers)
        refused = "finalizer" if what == "finalizer" else "Deployment ranker-canary"
        world.refusing = {refused: "WriteRefused"}
    world.settle()
    found = world.condition("ActionRequired")
    assert found.reason == ("NotKeptWarm" if what == "pods" else "WriteRefused")
    assert "quota" in found.message
    if what == "pods":
        assert world.condition("Stalled") is None
        assert "Deployment ranker-canary: not all of 9 pods of shop-g1 are" in found.message
    world.months.append("2025-04")
    world.rounds(6)
    assert world.generation(3).status.verdict == "Accepted"
    world.now = rollout_of(world).bake_until
    world.settle()
    assert rollout_of(world).baked_at == world.now


def test_without_a_generation_to_return_to_nothing_is_kept() -> None:
    world = with_live(**WARM)
    assert world.update.status.phase == "Baking"
    assert not world.canaries
    assert world.update.metadata.finalizers == ()


@pytest.mark.parametrize("how", ["keepWarm", "strategy", "bake", "mode", "route"])
def test_what_the_spec_no_longer_asks_for_is_deleted_with_weight_0(how: str) -> None:
    world = warm()
    noted = notes(world)
    rollout = {**gateway(), **WARM}
    if how == "keepWarm":
        world.edit(rollout={**rollout, "rollback": {}})
    elif how == "strategy":
        kept = {k: v for k, v in TARGET.items() if k not in {"service", "httpRoute"}}
        world.edit(rollout={"targets": [kept], "bake": {"duration": "1h"}})
    elif how == "bake":
        world.edit(rollout=gateway())
    elif how == "mode":
        world.edit(mode="Observe")
    else:
        world.create_route("other")
        world.edit(rollout={**rollout, "targets": [{**TARGET, "httpRoute": "other"}]})
    world.settle()
    assert noted == [("deleted", (100, 0))]
    assert world.target.number == 2


def test_keep_warm_that_is_switched_on_in_a_bake_counts_at_once() -> None:
    world = baking(rollback={})
    assert not world.canaries
    world.edit(rollout={**gateway(), **WARM})
    world.settle()
    assert world.canary.number == 1


def test_steps_that_are_edited_in_the_bake_change_no_warm_pod() -> None:
    world = warm()
    noted = notes(world)
    world.edit(rollout={**gateway(STEPS[:1]), **WARM})
    later(world, 2)
    assert noted == []


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("minutes", [0, 2])
def test_a_pin_deletes_warm_pods_and_they_come_back_with_the_bake(
    number: int, minutes: int
) -> None:
    world = warm()
    world.pin(number)
    world.settle()
    later(world, minutes)
    assert (world.canaries, world.target.number) == ({}, number)
    world.pin(None)
    later(world, 3)
    assert world.target.number == 2
    assert (world.canary.number, world.canary.desired) == (1, 9)
    ask_for_a_rollback(world)
    assert world.weights() == (0, 100)


def test_a_suspended_update_keeps_its_pods_warm_and_rolls_back() -> None:
    world = warm()
    world.edit(suspend=True)
    later(world, 2)
    assert world.canary.number == 1
    ask_for_a_rollback(world)
    assert world.weights() == (0, 100)


def test_a_rollback_that_freezes_the_update_is_not_held_by_it() -> None:
    world = warm(rollback={"keepWarm": True, "freezeAfter": 1})
    ask_for_a_rollback(world)
    assert world.weights() == (0, 100)
    world.pods_ready = True
    later(world, 2)
    assert world.update.status.phase == "Frozen"
    assert not world.canaries


@pytest.mark.survives(
    "Routes",
    "an update is deleted while warm pods are kept, or have the requests",
    "in the bake they are deleted; in a rollback the targets return first, then the weight",
)
def test_a_deleted_update_leaves_no_warm_pod() -> None:
    world = warm()
    noted = notes(world)
    world._meta(deletion_timestamp=world.now)
    world.settle()
    assert noted == [("deleted", (100, 0))]
    assert world.update.metadata.finalizers == ()
    assert world.target.number == 2


def test_the_next_canary_begins_without_the_warm_pods() -> None:
    world = warm()
    world.months.append("2025-04")
    world.rounds(6)
    assert world.generation(3).status.rollout.step_started_at is None
    noted = notes(world)
    world.now = rollout_of(world).bake_until
    world.settle()
    world.finish_rollouts()
    world.settle()
    assert noted == [("deleted", (100, 0)), ("canary", (3, 1)), ("weights", (90, 10))]


def test_the_next_canary_waits_for_warm_pods_whose_deletion_is_refused() -> None:
    world = warm()
    world.months.append("2025-04")
    world.rounds(6)
    world.refusing = {"deletion of Deployment ranker-canary": "WriteRefused"}
    world.now = rollout_of(world).bake_until
    later(world, 3)
    assert world.generation(3).status.rollout.step_started_at is None
    assert world.condition("ActionRequired").reason == "WriteRefused"
    world.refusing = {}
    later(world, 2)
    assert world.canary.number == 3


def test_a_recreated_update_adopts_its_warm_pods() -> None:
    world = warm()
    uid = world.canary.uid
    world.recreate(cascade=False)
    later(world, 2)
    assert world.canary.uid == uid
    ask_for_a_rollback(world)
    assert world.weights() == (0, 100)
