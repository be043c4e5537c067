"""A rollback to warm pods: one write of the route, then the usual rolling update."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.canary_scenes import later
from lifecycle.gateway_scenes import TARGET, gateway, rollout_of, route_record
from lifecycle.warm_scenes import QUOTA, WARM, ask_for_a_rollback, baking, notes, warm


@pytest.mark.survives(
    "Routes",
    "a generation that bakes is rolled back, and pods of the previous one are kept warm",
    "one write of the route gives them all requests; the weight returns once the target runs the "
    "previous generation, and then they go",
)
def test_a_rollback_is_one_write_of_the_route_then_the_usual_one() -> None:
    world = warm()
    noted = notes(world)
    ask_for_a_rollback(world)
    assert noted == [("weights", (0, 100)), ("target", 1)]
    assert world.weights() == (0, 100)
    assert route_record(world).weight == 100
    assert route_record(world).shifted_at == world.now
    assert "TrafficShifted" in world.events
    serving = world.condition("Serving")
    assert (serving.status, serving.reason) == ("True", "RollingBack")
    assert world.update.status.progress.summary == "on warm pods"

    later(world, 30)
    assert world.weights() == (0, 100), "the target is not available yet"
    assert rollout_of(world).rolled_back_at is None
    world.pods_ready = True
    world.finish_rollouts()
    world.settle()
    assert world.weights() == (100, 0)
    assert world.canaries, "its pods stay until the gateway has followed"
    later(world, 1)
    assert noted == [
        ("weights", (0, 100)),
        ("target", 1),
        ("weights", (100, 0)),
        ("deleted", (100, 0)),
    ]
    assert world.generation(2).status.outcome == "RolledBack"
    assert world.update.status.live.number == 1


def test_pods_that_fail_the_bake_are_rolled_back_in_the_same_way() -> None:
    world = warm()
    world.crash_a_pod()
    for _ in range(11):
        world.now += timedelta(minutes=1)
        world.settle()
    assert "longer than 10m" in rollout_of(world).rollback_reason
    assert world.weights() == (0, 100)


def test_pods_whose_deletion_was_refused_after_the_bake_get_no_requests_in_a_later_rollback() -> (
    None
):
    world = warm()
    world.refusing = {"deletion of Deployment ranker-canary": "WriteRefused"}
    later(world, 61)
    assert rollout_of(world).baked_at
    ask_for_a_rollback(world)
    assert world.weights() == (100, 0)
    world.refusing = {}
    later(world, 2)
    assert world.canaries == {}


def test_requests_move_once_as_many_pods_are_ready_as_the_target_has_available() -> None:
    world = warm()
    world.target = replace(world.target, desired=20, updated=20)
    world.settle()
    assert (world.canary.desired, world.canary.available, world.target.available) == (20, 9, 9)
    world.pods_ready = False
    world.ask("rollback.g2@bad")
    while not rollout_of(world).rollback_reason:
        world.step()
    world.step()
    assert world.weights() == (0, 100), "eleven pods of each only start"


@pytest.mark.survives(
    "Routes",
    "warm pods are not ready when the rollback is decided",
    "the usual rolling update begins; requests move to them if they get ready before it ends",
)
def test_pods_that_get_ready_during_the_rollback_are_used() -> None:
    world = warm()
    world.change_canary("ranker-canary", available=3)
    noted = notes(world)
    world.target = replace(world.target, available=9)
    world.ask("rollback.g2@bad")
    world.pods_ready = world.canary_pods_ready = False
    while not noted:
        world.step()
    assert noted == [("target", 1)], "it is not waited for them"
    world.canary_pods_ready = True
    world.finish_canaries()
    world.settle()
    assert noted == [("target", 1), ("weights", (0, 100))]


def test_pods_that_cannot_get_ready_are_deleted_when_the_rollback_begins() -> None:
    world = baking()
    world.canary_pods_ready = False
    world.change_canary("ranker-canary", available=3, trouble=QUOTA)
    noted = notes(world)
    world.target = replace(world.target, available=9)
    ask_for_a_rollback(world)
    assert noted == [("deleted", (100, 0)), ("target", 1)], "they take no room from the target's"
    world.pods_ready = True
    later(world, 1)
    assert world.generation(2).status.outcome == "RolledBack"
    assert noted == [("deleted", (100, 0)), ("target", 1)]


def test_pods_that_are_no_endpoints_get_no_requests() -> None:
    world = warm()
    world.endpoints_follow = False
    ask_for_a_rollback(world)
    assert (world.weights(), world.target.number) == ((100, 0), 1)
    assert world.plan.wake_after <= timedelta(seconds=1)
    world.endpoints_follow = True
    world.now += timedelta(seconds=1)
    world.settle()
    assert world.weights() == (0, 100)


@pytest.mark.survives(
    "Routes",
    "warm pods that have the requests crash, or are deleted or edited, before the target is back",
    "the weight returns at once, and the rolling update goes on without them",
)
@pytest.mark.parametrize("how", ["crashed", "deleted", "edited"])
def test_warm_pods_that_are_lost_during_the_rollback_lose_the_requests(how: str) -> None:
    world = warm()
    ask_for_a_rollback(world)
    assert world.weights() == (0, 100)
    if how == "crashed":
        world.crash_canaries()
    elif how == "deleted":
        del world.canaries["ranker-canary"]
    else:
        world.edit_canary("ranker-canary")
    world.settle()
    assert world.weights() == (100, 0)
    later(world, 1)
    assert not world.canaries
    assert world.weights() == (100, 0), "once is enough"
    world.pods_ready = True
    later(world, 1)
    assert world.generation(2).status.outcome == "RolledBack"


def test_a_pod_less_keeps_the_requests_where_they_are() -> None:
    world = warm()
    ask_for_a_rollback(world)
    world.change_canary("ranker-canary", available=1)
    world.settle()
    assert world.weights() == (0, 100)


def test_a_rollback_with_a_refused_patch_is_the_rolling_update() -> None:
    world = warm()
    world.refusing = {"HTTPRoute shop": "PatchRefused"}
    world.ask("rollback.g2@bad")
    later(world, 1)
    assert world.target.number == 1
    assert world.weights() == (100, 0)
    later(world, 2)
    assert world.generation(2).status.outcome == "RolledBack"
    assert not world.canaries


def test_a_rollback_of_a_target_that_was_scaled_to_0_in_the_bake_is_over_without_requests() -> None:
    world = warm()
    world.target = replace(world.target, desired=0, available=0, updated=0)
    world.settle()
    assert world.canary.desired == 0
    ask_for_a_rollback(world)
    later(world, 1)
    assert world.generation(2).status.outcome == "RolledBack"
    assert (world.weights(), world.target.number, world.canaries) == ((100, 0), 1, {})


def test_pods_that_cannot_get_the_requests_do_not_hold_a_rollback_that_makes_no_progress() -> None:
    world = warm()
    world.refusing = {"HTTPRoute shop": "PatchRefused"}
    ask_for_a_rollback(world)
    later(world, 8)
    world.target = replace(world.target, stalled="its pods exceed the quota")
    world.settle()
    assert world.canaries, "the patch may be accepted until the deadline"
    later(world, 14)
    assert world.canaries == {}, "their room may be what the target lacks"
    assert world.generation(2).status.outcome == "RolledBack"


def test_a_target_that_another_update_takes_in_the_rollback_gets_its_requests_back() -> None:
    world = warm()
    ask_for_a_rollback(world)
    assert world.weights() == (0, 100)
    world.target = replace(world.target, claimed_by="other", available=9)
    later(world, 2)
    assert (world.weights(), world.canaries) == ((100, 0), {})
    assert world.generation(2).status.outcome == "RolledBack"


def test_a_pin_in_the_rollback_leaves_the_requests_until_the_target_runs_what_is_pinned() -> None:
    world = warm()
    ask_for_a_rollback(world)
    world.pin(1)
    later(world, 2)
    assert world.weights() == (0, 100)
    world.pods_ready = True
    later(world, 2)
    assert (world.weights(), world.target.number, world.canaries) == ((100, 0), 1, {})


@pytest.mark.parametrize("ready", [True, False])
def test_an_update_that_is_deleted_in_the_rollback_lets_the_targets_return_first(
    ready: bool,
) -> None:
    world = warm()
    noted = notes(world)
    ask_for_a_rollback(world)
    world._meta(deletion_timestamp=world.now)
    later(world, 5)
    assert (world.weights(), world.target.number) == ((0, 100), 1)
    world.pods_ready = ready
    later(world, 1 if ready else 6)
    later(world, 1)
    assert noted[2:] == [("weights", (100, 0)), ("deleted", (100, 0))]
    assert world.update.metadata.finalizers == ()


def test_a_target_that_makes_no_progress_keeps_the_requests_on_warm_pods() -> None:
    world = warm()
    ask_for_a_rollback(world)
    world.target = replace(world.target, stalled="its pods exceed the quota")
    later(world, 30)
    assert world.weights() == (0, 100)
    assert world.condition("ActionRequired").reason == "RollingBack"
    assert "makes no progress (its pods exceed" in world.condition("ActionRequired").message


@pytest.mark.parametrize("how", ["deleted", "scaled to 0", "paused"])
def test_a_target_that_cannot_serve_keeps_the_requests_on_warm_pods(how: str) -> None:
    world = warm()
    ask_for_a_rollback(world)
    if how == "deleted":
        world.target = replace(world.target, uid="", available=0)
    elif how == "scaled to 0":
        world.target = replace(world.target, desired=0, available=0)
    else:
        world.target = replace(world.target, paused=True)
    later(world, 30)
    assert world.weights() == (0, 100)
    assert rollout_of(world).rolled_back_at is None
    assert world.condition("ActionRequired").status == "True"


@pytest.mark.survives(
    "Operator",
    "is ended between two writes while pods are kept warm, or get the requests",
    "the next decision continues: the same writes in the same order",
)
def test_a_crash_after_any_write_of_the_rollback_changes_nothing() -> None:
    world = warm()
    noted = notes(world)
    world.pods_ready = False
    world.ask("rollback.g2@bad")
    for _ in range(8):
        world.crash_after(1)
    world.settle()
    assert noted[:1] == [("weights", (0, 100))]
    assert route_record(world).shifted_at is not None
    world.pods_ready = True
    world.finish_rollouts()
    for _ in range(8):
        world.crash_after(1)
    later(world, 1)
    assert [each for each in noted if each[0] != "target"] == [
        ("weights", (0, 100)),
        ("weights", (100, 0)),
        ("deleted", (100, 0)),
    ]
    assert world.generation(2).status.outcome == "RolledBack"


def test_several_targets_move_each_as_its_own_pods_are_ready() -> None:
    world = baking()
    other = {**TARGET, "targetRef": {"name": "reranker"}, "service": "re", "httpRoute": "re"}
    world.create_route("re", re=1000, re_canary=0)
    world.create_target_of({"targetRef": {"name": "reranker"}, "container": "server"}, desired=3)
    world.edit(rollout={**gateway(), **WARM, "targets": [TARGET, other]})
    later(world, 2)
    assert world.canaries["reranker-canary"].deployment.desired == 3
    world.change_canary("reranker-canary", available=0)
    world.canary_pods_ready = False
    ask_for_a_rollback(world)
    assert (world.weights(), world.weights("re")) == ((0, 100), (1000, 0))
    world.canary_pods_ready = True
    world.finish_canaries()
    world.settle()
    assert world.weights("re") == (0, 1000)
    world.pods_ready = True
    later(world, 2)
    assert (world.weights(), world.weights("re"), world.canaries) == ((100, 0), (1000, 0), {})
