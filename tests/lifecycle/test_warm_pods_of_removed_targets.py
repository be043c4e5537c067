"""A target that leaves the spec while a canary or warm pods have its requests."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from lifecycle.canary_scenes import STEPS, begin, later
from lifecycle.gateway_scenes import TARGET, gateway, rollout_of, with_live
from lifecycle.warm_scenes import WARM, ask_for_a_rollback, baking

if TYPE_CHECKING:
    from lifecycle.world import World

OTHER = {**TARGET, "targetRef": {"name": "reranker"}, "service": "re", "httpRoute": "re"}


def add_another_target(world: World, **rollout: Any) -> None:
    world.create_route("re", re=1000, re_canary=0)
    world.create_target_of({"targetRef": {"name": "reranker"}, "container": "server"}, desired=3)
    world.edit(rollout={**gateway(), **rollout, "targets": [TARGET, OTHER]})
    world.finish_rollouts()


def removed_in_the_rollback() -> World:
    """Warm pods have the requests of both targets; reranker was removed, its pods only start."""
    world = baking()
    add_another_target(world, **WARM)
    later(world, 2)
    ask_for_a_rollback(world)
    assert (world.weights(), world.weights("re")) == ((0, 100), (0, 1000))
    world.edit(rollout={**gateway(), **WARM})
    return world


@pytest.mark.survives(
    "Routes",
    "a target is removed from the spec while warm pods have its requests in a rollback",
    "it runs the previous generation with all its pods first, then the weight returns",
)
def test_warm_pods_keep_the_requests_of_a_removed_target_until_it_serves_again() -> None:
    world = removed_in_the_rollback()
    world.pods_ready = True
    world.settle()
    assert world.targets["reranker"].number == 1
    world.targets["reranker"] = replace(world.targets["reranker"], available=1)
    world.targets["ranker"] = replace(world.target, available=9, updated=9, old=0)
    world.pods_ready = False
    later(world, 5)
    assert (world.weights(), world.weights("re")) == ((100, 0), (0, 1000))
    assert [*world.canaries] == ["reranker-canary"]
    assert rollout_of(world).rolled_back_at is None
    assert "Deployment reranker-canary serves" in world.update.status.progress.waiting_for
    world.pods_ready = True
    world.finish_rollouts()
    world.settle()
    assert world.weights("re") == (1000, 0)
    assert world.canaries, "its pods stay until the gateway has followed"
    later(world, 1)
    assert (world.canaries, world.generation(2).status.outcome) == ({}, "RolledBack")


@pytest.mark.parametrize("how", ["deleted", "scaled to 0", "theirs", "taken", "crashed"])
def test_what_the_owner_of_a_removed_target_decides_holds_no_rollback(how: str) -> None:
    """The requests go back to it, as they do where no warm pod is left."""
    world = removed_in_the_rollback()
    target = world.targets["reranker"]
    changes: dict[str, dict[str, Any]] = {
        "deleted": {"uid": "", "available": 0, "desired": 0},
        "scaled to 0": {"desired": 0, "available": 0},
        "theirs": {"foreign_manager": "helm"},
        "taken": {"claimed_by": "other"},
        "crashed": {},
    }
    world.targets["reranker"] = replace(target, **changes[how])
    if how == "crashed":
        world.crash_canaries()
    world.target = replace(world.target, available=9, updated=9, old=0)
    later(world, 2)
    assert world.weights("re") == (1000, 0)
    assert world.generation(2).status.outcome == "RolledBack"
    assert not world.canaries


def test_a_removed_target_that_makes_no_progress_keeps_its_requests_on_warm_pods() -> None:
    world = removed_in_the_rollback()
    world.settle()
    world.target = replace(world.target, available=9, updated=9, old=0)
    stuck = replace(world.targets["reranker"], stalled="its pods exceed the quota")
    world.targets["reranker"] = stuck
    later(world, 30)
    assert world.weights("re") == (0, 1000)
    found = world.condition("ActionRequired")
    assert "Deployment reranker makes no progress (its pods exceed the quota)" in found.message
    world.targets["reranker"] = replace(stuck, stalled="", paused=True)
    later(world, 1)
    assert world.condition("ActionRequired").reason == "TargetPaused"


@pytest.mark.parametrize("ready", [True, False])
def test_a_canary_keeps_its_weight_while_pods_of_a_removed_target_are_replaced(ready: bool) -> None:
    """Not for longer than the other targets take: nothing watches it any more."""
    world = with_live()
    add_another_target(world)
    later(world, 2)
    begin(world)
    while not rollout_of(world).steps_ended_at:
        world.pods_ready = rollout_of(world).step < len(STEPS)
        later(world, 1)
    assert world.targets["reranker"].number == 2
    world.edit(rollout=gateway())
    later(world, 1)
    assert world.weights("re") == (500, 500)
    if ready:
        full = {"updated": 3, "available": 3, "old": 0}
        world.targets["reranker"] = replace(world.targets["reranker"], **full)
    else:
        world.target = replace(world.target, updated=9, available=9, old=0)
    later(world, 1)
    assert world.weights("re") == (1000, 0)
    assert world.weights() == ((50, 50) if ready else (100, 0))


def test_a_canary_of_a_removed_target_loses_its_weight_at_once_in_the_steps() -> None:
    """The target serves live with all its pods."""
    world = with_live()
    add_another_target(world)
    later(world, 2)
    begin(world)
    assert world.weights("re") == (900, 100)
    world.edit(rollout=gateway())
    world.settle()
    assert (world.weights(), world.weights("re")) == ((90, 10), (1000, 0))
