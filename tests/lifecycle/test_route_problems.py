"""What is wrong with a route, its Services or a budget, by name and with what to write in Git."""

from dataclasses import replace

import pytest
from lifecycle.route_examples import AT_REST, route

from springtide_operator.lifecycle.routes.observed import (
    ObservedBudget,
    ObservedRouting,
    ObservedService,
    Requirement,
    Selector,
)
from springtide_operator.lifecycle.routes.problems import (
    coarse_problem,
    route_problem,
    start_problem,
)
from springtide_operator.lifecycle.routes.service_problems import (
    canary_labels,
    outdated_service,
    selection_problem,
    service_problem,
)

PATH = "spec.rollout.targets[0]"
OURS = {"springtide.dev/role": "canary"}


def found(seen):
    problem = route_problem(seen, "ranker", PATH)
    return problem and (problem.reason, problem.message)


def test_a_route_with_both_services_at_100_and_0_has_no_problem():
    assert found(route(AT_REST)) is None
    assert start_problem(route(AT_REST), "ranker") is None
    assert coarse_problem("shop", "ranker", {0: 100}, (1, 10, 50)) is None


@pytest.mark.parametrize(
    ("seen", "reason", "message"),
    [
        (
            route(uid=""),
            "RouteNotFound",
            "HTTPRoute shop does not exist; create it with Services ranker and ranker-canary in "
            "its backendRefs, or change spec.rollout.targets[0].httpRoute",
        ),
        (
            route(AT_REST, deleting=True),
            "RouteNotFound",
            "HTTPRoute shop does not exist; create it with Services ranker and ranker-canary in "
            "its backendRefs, or change spec.rollout.targets[0].httpRoute",
        ),
        (
            route({"search": 1}),
            "RouteWithoutService",
            "HTTPRoute shop names Service ranker in no rule; add it to backendRefs, or change "
            "spec.rollout.targets[0].service or spec.rollout.targets[0].httpRoute",
        ),
        (
            route({"ranker": 1}),
            "RouteWithoutCanary",
            "HTTPRoute shop: rules[0].backendRefs names Service ranker without ranker-canary; "
            "write in Git weight: 100 on ranker, and add {name: ranker-canary, port: 80, "
            "weight: 0}",
        ),
        (
            route(AT_REST, {"ranker": 1}),
            "RouteWithoutCanary",
            "HTTPRoute shop: rules[1].backendRefs names Service ranker without ranker-canary; "
            "write in Git weight: 100 on ranker, and add {name: ranker-canary, port: 80, "
            "weight: 0}",
        ),
        (
            route(AT_REST, {"ranker-canary": 1}),
            "RouteWithoutService",
            "HTTPRoute shop: rules[1].backendRefs names Service ranker-canary without ranker; "
            "remove it, or add both",
        ),
        (
            route(unavailable="the API server does not serve httproutes"),
            "RouteUnavailable",
            "HTTPRoute shop: the API server does not serve httproutes",
        ),
    ],
)
def test_a_problem_of_a_route_names_the_rule_and_what_to_write(seen, reason, message):
    assert found(seen) == (reason, message)


def test_a_service_of_another_namespace_is_refused_by_name():
    seen = route(AT_REST)
    away = replace(seen.backends[1], namespace="other")
    assert found(replace(seen, backends=(seen.backends[0], away))) == (
        "RouteWithoutService",
        "HTTPRoute shop: rules[0].backendRefs[1] is Service ranker-canary of namespace other; "
        "requests are shifted only within namespace search: remove its namespace",
    )


def test_a_service_that_a_rule_names_twice_is_refused_by_name():
    seen = route(AT_REST)
    again = replace(seen.backends[0], index=2)
    assert found(replace(seen, backends=(*seen.backends, again))) == (
        "RouteAmbiguous",
        "HTTPRoute shop: rules[0].backendRefs names Service ranker or ranker-canary twice; name "
        "each once",
    )


def test_other_rules_and_other_backends_of_a_rule_are_no_problem():
    assert found(route({**AT_REST, "old": 10}, {"docs": 1})) is None


@pytest.mark.parametrize("weights", [(1, 1), (100, 10), (0, 0)])
def test_weights_that_a_canary_cannot_begin_with_are_refused_with_the_right_ones(weights):
    stable, canary = weights
    problem = start_problem(route({"ranker": stable, "ranker-canary": canary}), "ranker")
    assert problem.reason == "RouteNotAtRest"
    assert problem.message == (
        f"HTTPRoute shop: rules[0].backendRefs weighs ranker {stable} and ranker-canary {canary} "
        "outside the steps of a canary; set weight: 100 on ranker and weight: 0 on ranker-canary "
        "in Git (without a weight, each counts as 1)"
    )


def test_a_weight_that_whole_numbers_do_not_split_is_refused():
    problem = coarse_problem("shop", "ranker", {0: 100, 1: 10}, (10, 25))
    assert problem.reason == "RouteTooCoarse"
    assert problem.message == (
        "HTTPRoute shop: rules[1].backendRefs: of weight 10 of ranker, 25 % is no whole number "
        "within 0.5 points; set weight: 100 on ranker and weight: 0 on ranker-canary in Git"
    )


def service(name="ranker", selector=(("app", "ranker"),), **fields):
    fields.setdefault("ports", ("80/TCP to 8000",))
    return ObservedService(name, Selector(selector) if selector else None, **fields)


def routing(*services, budgets=()):
    return ObservedRouting(route(AT_REST), services, tuple(budgets))


CANARY = service("ranker-canary", tuple(OURS.items()), update="shop")


@pytest.mark.parametrize(
    ("services", "reason", "message"),
    [
        (
            [],
            "ServiceNotFound",
            "Service ranker does not exist; create it or change spec.rollout.targets[0].service",
        ),
        (
            [service(selector=None)],
            "ServiceNotFound",
            "Service ranker has no selector; name in spec.rollout.targets[0].service one that has",
        ),
        (
            [service(), replace(CANARY, update="")],
            "NameCollision",
            "Service ranker-canary exists and does not belong to this update; it is the name of "
            "the canary's Service: delete or rename it",
        ),
        (
            [service(), replace(CANARY, update="other")],
            "NameCollision",
            "Service ranker-canary exists and belongs to IncrementalUpdate other; it is the name "
            "of the canary's Service: delete or rename it",
        ),
    ],
)
def test_a_problem_of_a_service_is_named(services, reason, message):
    problem = service_problem(routing(*services), "ranker", PATH, "shop")
    assert (problem.reason, problem.message) == (reason, message)


def test_a_service_of_the_canary_with_other_ports_than_the_owners_is_named():
    changed = routing(service(ports=("8080/TCP to 8000",)), CANARY)
    problem = outdated_service(changed, "ranker", OURS)
    assert (problem.reason, problem.message) == (
        "ServiceOutdated",
        "Service ranker-canary has port 80/TCP to 8000, and Service ranker 8080/TCP to 8000; "
        "delete Service ranker-canary, and it is created again",
    )
    assert outdated_service(routing(service(), CANARY), "ranker", OURS) is None


def test_a_service_of_the_canary_that_selects_pods_of_another_target_is_named():
    problem = outdated_service(
        routing(service(), CANARY), "ranker", {"springtide.dev/role": "other"}
    )
    assert (problem.reason, problem.message) == (
        "ServiceOutdated",
        "Service ranker-canary selects springtide.dev/role=canary, and not "
        "springtide.dev/role=other; delete Service ranker-canary, and it is created again",
    )


def test_the_services_of_a_canary_of_this_update_have_no_problem():
    assert service_problem(routing(service()), "ranker", PATH, "shop") is None
    assert service_problem(routing(service(), CANARY), "ranker", PATH, "shop") is None


LABELS = canary_labels({"app": "ranker", "team": "search", "tier": "web"}, ("app",), OURS)


def test_canary_pods_drop_only_the_keys_that_select_the_owners_pods():
    assert LABELS == {"team": "search", "tier": "web", **OURS}


def selected(*services, budgets=()):
    problem = selection_problem(routing(*services, budgets=budgets), "ranker", LABELS)
    return problem and problem.message


def test_the_owners_service_and_its_budget_do_not_select_canary_pods():
    budget = ObservedBudget("ranker", Selector((("app", "ranker"),)))
    assert selected(service(), CANARY, service("idle", None), budgets=[budget]) is None


FIX = "add to its selector a label of the Deployment's selector, which canary pods do not carry"


def test_another_service_that_would_select_canary_pods_is_named():
    metrics = service("metrics", (("team", "search"),))
    assert selected(service(), metrics) == (
        f"Service metrics would select canary pods (team=search); {FIX}"
    )


@pytest.mark.parametrize(
    ("selector", "shown"),
    [
        (Selector(), "all pods"),
        (Selector((("tier", "web"),)), "tier=web"),
        (Selector((), (Requirement("app", "DoesNotExist"),)), "app DoesNotExist"),
        (Selector((), (Requirement("team", "Exists"),)), "team Exists"),
        (Selector((), (Requirement("team", "In", frozenset({"search", "x"})),)), "team In"),
        (Selector((), (Requirement("team", "NotIn", frozenset({"x"})),)), "team NotIn"),
    ],
)
def test_a_budget_that_would_select_canary_pods_is_named(selector, shown):
    budget = ObservedBudget("spread", selector)
    assert selected(service(), budgets=[budget]) == (
        f"PodDisruptionBudget spread would select canary pods ({shown}); {FIX}"
    )


@pytest.mark.parametrize(
    "requirement",
    [
        Requirement("app", "Exists"),
        Requirement("team", "DoesNotExist"),
        Requirement("team", "In", frozenset({"x"})),
        Requirement("team", "NotIn", frozenset({"search"})),
    ],
)
def test_a_budget_with_an_expression_that_canary_pods_do_not_meet_is_no_problem(requirement):
    budget = ObservedBudget("spread", Selector((), (requirement,)))
    assert selected(service(), budgets=[budget]) is None


def test_a_budget_without_a_selector_selects_nothing():
    assert selected(service(), budgets=[ObservedBudget("none", None)]) is None
