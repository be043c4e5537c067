"""A canary by Gateway without a ready pod: a gateway would fail its share of the requests."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from lifecycle.canary_scenes import STEPS, later, summary
from lifecycle.gateway_scenes import gateway, rollout_of, route_record, started
from lifecycle.world import digest

if TYPE_CHECKING:
    from lifecycle.world import World

PULL = "image pull failed: not found"
NO_NODE = "no node fits: 0/3 nodes are available"
LOST = "node lost: node-1 reports nothing"


def recover(world: World) -> None:
    world.canary_pods_ready = True
    world.finish_canaries()
    world.settle()


def lose(world: World, trouble: str = "container server ended with code 1: killed") -> None:
    """Let all canary pods be lost; what the kubelet says is known."""
    world.crash_canaries(trouble)
    world.settle()


@pytest.mark.survives(
    "Routes",
    "all pods of a canary by Gateway are lost in a step: they crash, or their node is gone",
    "the weight returns at once; the step starts again once all are available, within "
    "`rollout.deadline`",
)
@pytest.mark.parametrize("trouble", ["container server ended with code 1: killed", LOST, ""])
def test_a_canary_without_a_ready_pod_loses_its_requests_at_once(trouble: str) -> None:
    world = started()
    later(world, 5)
    lost = world.now
    lose(world, trouble)
    assert (world.weights(), route_record(world).weight) == ((100, 0), 0)
    assert (rollout_of(world).weight_seen_at, rollout_of(world).unavailable_since) == (None, lost)
    assert rollout_of(world).deadline == lost + timedelta(minutes=10)
    message = world.event_messages[-2]
    assert "step 1 of 2 starts again: no pod of Deployment ranker-canary is ready" in message
    assert trouble in message
    assert summary(world) == "canary 10 %, step 1/2, 0/1 pods"
    later(world, 2)
    recover(world)
    assert (world.weights(), rollout_of(world).step) == ((90, 10), 1)
    assert rollout_of(world).weight_seen_at == world.now
    later(world, 8)
    assert rollout_of(world).step == 1, "its time starts again"
    later(world, 3)
    assert rollout_of(world).step == 2
    later(world, 30)
    assert world.generation(2).status.outcome == "Live"


@pytest.mark.survives(
    "Routes",
    "all pods of a canary by Gateway crash a second time with the requests of a step",
    "the canary ends with RolledBack at once",
)
def test_pods_that_all_crash_with_the_requests_twice_end_the_canary() -> None:
    world = started()
    lose(world)
    later(world, 2)
    recover(world)
    assert world.weights() == (90, 10)
    later(world, 1)
    lose(world)
    assert world.weights() == (100, 0)
    assert "the second time since 12:" in rollout_of(world).rollback_reason
    assert "(container server ended with code 1: killed)" in rollout_of(world).rollback_reason
    assert world.canaries, "its pods stay until the gateway has followed"
    later(world, 1)
    assert world.generation(2).status.outcome == "RolledBack"


@pytest.mark.parametrize("trouble", [LOST, NO_NODE, PULL, ""])
def test_pods_that_are_lost_again_for_another_cause_lose_the_requests_alone(trouble: str) -> None:
    """An empty cause: the pods only start, as after an eviction."""
    world = started()
    lose(world)
    later(world, 2)
    recover(world)
    lose(world, trouble)
    assert world.weights() == (100, 0)
    assert rollout_of(world).rollback_reason == ""
    recover(world)
    assert world.weights() == (90, 10)


@pytest.mark.parametrize(
    ("trouble", "outcome"),
    [
        ("container server ended with code 1: killed", "RolledBack"),
        (LOST, "RolloutFailed"),
        (NO_NODE, "RolloutFailed"),
        (PULL, "RolloutFailed"),
    ],
)
def test_pods_that_do_not_come_back_within_the_deadline_end_the_canary(
    trouble: str, outcome: str
) -> None:
    world = started(strategy=gateway([{"weight": 10, "duration": "3h"}])["strategy"])
    later(world, 60)
    lose(world, trouble)
    later(world, 9)
    assert rollout_of(world).rollback_reason == "", "the time of the step before does not count"
    later(world, 3)
    assert world.generation(2).status.outcome == outcome
    assert (world.weights(), world.canaries) == ((100, 0), {})


def test_pods_that_crash_for_the_second_time_long_after_the_first_are_not_aborted_at_once() -> None:
    world = started(strategy=gateway([{"weight": 10, "duration": "3h"}])["strategy"])
    lose(world)
    recover(world)
    later(world, 12)
    assert rollout_of(world).unavailable_since is None
    lose(world)
    assert (world.weights(), rollout_of(world).rollback_reason) == ((100, 0), "")


def test_one_ready_pod_of_several_keeps_the_requests() -> None:
    world = started()
    later(world, 11)
    assert (world.weights(), world.canary.desired) == ((50, 50), 5)
    world.canary_pods_ready = False
    world.change_canary("ranker-canary", available=1, ready=1, failing=4, trouble="killed")
    later(world, 5)
    assert world.weights() == (50, 50)
    assert rollout_of(world).unavailable_since


def test_a_service_without_endpoints_loses_the_requests_though_its_pods_are_available() -> None:
    world = started()
    world.endpoints_follow = False
    later(world, 1)
    assert world.weights() == (100, 0)
    assert "0/1 endpoints" in summary(world)
    world.endpoints_follow = True
    later(world, 1)
    assert world.weights() == (90, 10)


def on_two_targets() -> World:
    """The first step of a canary of ranker and of reranker, which has a route of its own."""
    world = started()
    other = {**world.spec["rollout"]["targets"][0], "targetRef": {"name": "reranker"}}
    other |= {"service": "re", "httpRoute": "re"}
    world.create_route("re", re=1000, re_canary=0)
    world.create_target_of({"targetRef": {"name": "reranker"}, "container": "server"}, desired=9)
    world.edit(rollout={**gateway(), "targets": [*world.spec["rollout"]["targets"], other]})
    later(world, 3)
    assert (world.weights(), world.weights("re")) == ((90, 10), (900, 100))
    return world


def test_a_canary_that_loses_its_pods_while_another_drains_gets_no_more_requests() -> None:
    world = on_two_targets()
    world.change_template("ranker", digest("changed by its owner"))
    world.finish_rollouts()
    world.settle()
    assert (world.weights(), world.weights("re")) == ((100, 0), (900, 100))
    world.canary_pods_ready = False
    world.change_canary("reranker-canary", available=0, ready=0, failing=1, trouble="killed")
    world.settle()
    assert (world.weights(), world.weights("re")) == ((100, 0), (1000, 0))


def test_only_the_target_whose_canary_lost_its_pods_gets_its_requests_back() -> None:
    world = on_two_targets()
    world.canary_pods_ready = False
    world.change_canary("reranker-canary", available=0, ready=0, failing=1, trouble="killed")
    world.settle()
    assert (world.weights(), world.weights("re")) == ((90, 10), (1000, 0))
    recover(world)
    assert (world.weights(), world.weights("re")) == ((90, 10), (900, 100))


def test_a_canary_that_loses_its_pods_after_the_steps_is_removed_and_the_rollout_goes_on() -> None:
    world = started()
    while not rollout_of(world).steps_ended_at:
        world.pods_ready = rollout_of(world).step < len(STEPS)
        later(world, 1)
    assert (world.weights(), world.target.number) == ((50, 50), 2)
    lose(world)
    assert world.weights() == (100, 0)
    later(world, 1)
    assert world.canaries == {}
    assert rollout_of(world).rollback_reason == ""
    world.pods_ready = True
    later(world, 2)
    assert world.generation(2).status.outcome == "Live"


@pytest.mark.survives(
    "Operator",
    "is ended after any write of the weight that returns from a canary without pods",
    "the next decision continues: no second loss is counted, and the step starts again",
)
def test_a_crash_after_any_write_of_the_way_back_changes_nothing() -> None:
    world = started()
    world.crash_canaries()
    for _ in range(6):
        world.crash_after(1)
    world.settle()
    assert (world.weights(), rollout_of(world).rollback_reason) == ((100, 0), "")
    assert (route_record(world).weight, rollout_of(world).weight_seen_at) == (0, None)
    world.canary_pods_ready = True
    world.finish_canaries()
    for _ in range(6):
        world.crash_after(1)
    world.settle()
    assert world.weights() == (90, 10)
    later(world, 45)
    assert world.generation(2).status.outcome == "Live"
