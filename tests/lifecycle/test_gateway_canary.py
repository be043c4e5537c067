"""A canary by Gateway: its steps, their weights of an HTTPRoute, and its pods."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from lifecycle.canary_scenes import STEPS, begin, later, summary
from lifecycle.declared import SPEC
from lifecycle.gateway_scenes import TARGET, gateway, rollout_of, route_record, started, with_live
from lifecycle.world import World

from springtide_operator.lifecycle.routes.observed import Selector
from springtide_operator.lifecycle.state.plan import ApplyCanary


def test_the_weight_is_written_once_canary_pods_are_endpoints_and_the_step_counts_from_then() -> (
    None
):
    world = with_live()
    world.endpoints_follow = False
    begin(world)
    assert world.services["ranker-canary"].update == "shop"
    assert world.weights() == (100, 0)
    assert rollout_of(world).weight_seen_at is None
    assert summary(world) == "canary 10 %, step 1/2, 0/1 endpoints"
    world.endpoints_follow = True
    world.now += timedelta(minutes=1)
    world.settle()
    assert world.weights() == (90, 10)
    assert rollout_of(world).weight_seen_at == world.now
    assert route_record(world).weight == 10
    assert [(each.rule, each.weight) for each in route_record(world).weights] == [(0, 100)]


def test_steps_change_the_weight_and_after_promotion_all_of_it_is_back_on_the_owners_service() -> (
    None
):
    world = started()
    assert (world.weights(), world.canary.desired) == ((90, 10), 1)
    later(world, 11)
    assert (world.weights(), world.canary.desired) == ((50, 50), 5)
    world.pods_ready = False
    later(world, 21)
    assert rollout_of(world).steps_ended_at is not None
    assert world.target.number == 2
    assert world.weights() == (50, 50), "the canary keeps its weight while the targets change"
    world.pods_ready = True
    world.finish_rollouts()
    world.settle()
    assert world.weights() == (100, 0)
    assert world.canaries, "its pods stay until the gateway has followed"
    assert rollout_of(world).promoted_at is None
    later(world, 1)
    assert not world.canaries
    assert world.generation(2).status.outcome == "Live"
    assert world.weights() == (100, 0)


def test_canary_pods_have_a_label_of_their_own_and_not_those_of_the_owners_selectors() -> None:
    world = with_live()
    applied = []
    world.on_action = lambda seen, action: applied.append(action)
    begin(world)
    made = next(each for each in applied if isinstance(each, ApplyCanary))
    assert made.selector == (("springtide.dev/canary", "ranker-canary"),)
    assert made.dropped_labels == {"app"}
    assert world.services["ranker-canary"].selector == Selector(made.selector)


def test_pods_are_the_share_of_the_available_pods_rounded_up_and_rescaled_with_them() -> None:
    world = started()
    world.target = replace(world.target, desired=27, updated=27, available=27)
    later(world, 1)
    assert world.canary.desired == 3
    assert world.weights() == (90, 10)
    assert rollout_of(world).step == 1


def test_a_changed_route_of_the_spec_counts_from_the_next_rollout_on() -> None:
    world = started()
    world.create_route("other")
    world.edit(rollout={**gateway(), "targets": [{**TARGET, "httpRoute": "other"}]})
    later(world, 40)
    assert world.weights() == (100, 0)
    assert world.weights("other") == (100, 0)
    assert world.generation(2).status.outcome == "Live"
    assert route_record(world).name == "shop"


def test_a_weight_that_is_lowered_is_written_before_pods_go() -> None:
    world = started()
    later(world, 12)
    assert (world.weights(), world.canary.desired) == ((50, 50), 5)
    seen = []

    def note(_: object, action: object) -> None:
        if isinstance(action, ApplyCanary):
            seen.append((world.weights(), action.replicas))

    world.on_action = note
    world.edit(rollout=gateway([STEPS[0], {"weight": 20, "duration": "20m"}]))
    later(world, 2)
    assert (world.weights(), world.canary.desired) == ((80, 20), 2)
    assert seen == [((80, 20), 2)]


def test_a_target_added_during_a_canary_gets_the_weight_of_the_step_on_its_own_route() -> None:
    world = started()
    other = {**TARGET, "targetRef": {"name": "reranker"}, "service": "re", "httpRoute": "re"}
    world.create_target_of({"targetRef": {"name": "reranker"}, "container": "server"}, desired=9)
    world.edit(rollout={**gateway(), "targets": [TARGET, other]})
    later(world, 3)
    assert world.condition("Stalled").reason == "RouteNotFound"
    assert world.weights() == (90, 10)
    world.create_route("re", re=1000, re_canary=0)
    later(world, 3)
    assert world.weights("re") == (900, 100)
    assert world.weights() == (90, 10)
    later(world, 50)
    assert world.generation(2).status.outcome == "Live"
    assert (world.weights(), world.weights("re")) == ((100, 0), (1000, 0))


def test_with_replicas_no_route_is_read_or_written() -> None:
    world = World(spec={**SPEC})
    world.create_route()
    world.settle()
    assert world.seen().routings == {}
