"""What stops a canary by Gateway: a route that it cannot use, a refused patch, a name in use."""

from __future__ import annotations

import pytest
from lifecycle.canary_scenes import begin, later
from lifecycle.gateway_scenes import rollout_of, started, with_live
from lifecycle.route_examples import route

from springtide_operator.lifecycle.routes.observed import ObservedBudget, ObservedService, Selector


def test_a_refused_patch_stops_the_clock_and_is_retried() -> None:
    world = with_live()
    world.refusing = {"HTTPRoute shop": "PatchRefused"}
    begin(world)
    later(world, 30)
    assert world.condition("Stalled").reason == "PatchRefused"
    assert rollout_of(world).rollback_reason == ""
    world.refusing = {}
    later(world, 2)
    assert world.weights() == (90, 10)


def test_while_the_way_back_is_refused_the_pods_that_get_requests_stay() -> None:
    world = started()
    world.refusing = {"HTTPRoute shop": "PatchRefused"}
    world.ask("rollback.g2@1")
    later(world, 5)
    assert world.weights() == (90, 10)
    assert world.canaries
    assert world.condition("Stalled").reason == "PatchRefused"
    assert rollout_of(world).rolled_back_at is None
    world.refusing = {}
    later(world, 2)
    assert world.weights() == (100, 0)
    assert not world.canaries
    assert world.generation(2).status.outcome == "RolledBack"


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({"ranker": 1, "ranker-canary": 1}, "RouteNotAtRest"),
        ({"ranker": 1, "ranker-canary": 0}, "RouteTooCoarse"),
        ({"ranker": 100}, "RouteWithoutCanary"),
        ({"search": 100}, "RouteWithoutService"),
    ],
)
def test_a_route_that_a_canary_cannot_use_is_refused_before_the_first_step(weights, reason) -> None:
    world = with_live()
    world.routes["shop"] = route(weights)
    world.months.append("2025-03")
    world.rounds(8)
    assert world.condition("Stalled").reason == reason
    assert not world.canaries
    assert rollout_of(world).step is None
    world.create_route()
    world.rounds(2)
    assert world.canaries


@pytest.mark.survives(
    "Routes",
    "the HTTPRoute of a target is deleted, or its kind cannot be read, before or during a canary",
    "it waits with the reason; a rollback goes on without a route that is gone",
)
def test_a_route_that_is_gone_holds_a_step_and_no_rollback() -> None:
    world = started()
    del world.routes["shop"]
    later(world, 30)
    assert world.condition("Stalled").reason == "RouteNotFound"
    assert world.canaries
    assert rollout_of(world).rollback_reason == ""
    world.ask("rollback.g2@1")
    later(world, 2)
    assert not world.canaries
    assert world.generation(2).status.outcome == "RolledBack"


def test_routes_that_cannot_be_read_hold_the_deletion_of_pods_that_may_get_requests() -> None:
    world = started()
    world.route_problem = "the operator may not list httproutes"
    later(world, 5)
    assert world.condition("Stalled").reason == "RouteUnavailable"
    world.ask("rollback.g2@1")
    later(world, 5)
    assert world.canaries
    world.route_problem = ""
    later(world, 2)
    assert not world.canaries
    assert world.weights() == (100, 0)


def test_a_service_or_a_budget_that_would_select_canary_pods_is_refused_by_name() -> None:
    world = with_live()
    world.budgets = (ObservedBudget("team", Selector((("team", "search"),))),)
    world.months.append("2025-03")
    world.rounds(8)
    assert world.condition("Stalled").reason == "CanarySelected"
    assert "PodDisruptionBudget team" in world.condition("Stalled").message
    world.budgets = ()
    world.services["all"] = ObservedService("all", Selector((("team", "search"),)))
    world.rounds(2)
    assert "Service all" in world.condition("Stalled").message
    del world.services["all"]
    world.rounds(2)
    assert world.canaries


def test_a_service_of_another_client_with_the_name_of_the_canarys_is_refused() -> None:
    world = with_live()
    world.services["ranker-canary"] = ObservedService("ranker-canary", Selector((("a", "b"),)))
    world.months.append("2025-03")
    world.rounds(8)
    assert world.condition("Stalled").reason == "NameCollision"
    assert not world.canaries


def test_a_deletion_with_a_refused_patch_ends_after_the_deadline_and_leaves_the_pods() -> None:
    world = started()
    world.refusing = {"HTTPRoute shop": "PatchRefused"}
    world._meta(deletion_timestamp=world.now)
    later(world, 8)
    assert world.update.metadata.finalizers
    later(world, 8)
    assert world.update.metadata.finalizers == ()
    assert world.canaries, "they get requests"
