"""What an observation holds of routes, Services, budgets and endpoints."""

from datetime import UTC, datetime

from cluster.routes import route, service

from springtide_operator.cluster.reading.observed_routes import (
    observed_budget,
    observed_route,
    observed_service,
    ready_endpoints,
    selector_of,
)
from springtide_operator.cluster.watching.watches import (
    DEPLOYMENT,
    HTTP_ROUTE,
    affected_updates,
    new_cache,
    reflectors,
)
from springtide_operator.lifecycle.routes.observed import Requirement, Selector


def made(version="1", **metadata):
    raw = route("search")
    raw["metadata"] |= {"uid": "u", "resourceVersion": version, **metadata}
    return raw


def test_only_services_are_backends_and_a_missing_weight_counts_as_1():
    raw = made()
    other = {"group": "example.com", "kind": "Bucket", "name": "ranker", "port": 80}
    raw["spec"]["rules"] = [
        {},
        {"backendRefs": [other, {"name": "ranker", "port": 80, "namespace": "away"}]},
    ]
    (backend,) = observed_route("shop", raw).backends
    assert (backend.rule, backend.index, backend.weight) == (1, 1, 1)
    assert backend.namespace == "away"


def test_a_missing_route_and_an_unknown_kind_are_told_apart():
    assert observed_route("shop", None).uid == ""
    assert observed_route("shop", None, "not served").unavailable == "not served"


def test_the_client_that_wrote_the_rules_last_is_named_and_nothing_else_of_it_is_kept():
    fields = {"f:spec": {"f:rules": {}}}
    managed = [
        {"manager": "helm", "time": "2026-01-01T00:00:00Z", "fieldsV1": fields},
        {"manager": "argocd", "time": "2026-01-02T00:00:00Z", "fieldsV1": fields},
        {"manager": "gateway", "time": "2026-01-03T00:00:00Z", "fieldsV1": {"f:status": {}}},
    ]
    raw = {**made(managedFields=managed), "status": {"parents": []}}
    store = new_cache().stores[HTTP_ROUTE]
    store.replace([raw], 1)
    held = store.get("search", "shop")
    found = observed_route("shop", held)
    assert (found.changed_by, found.changed_at) == ("argocd", datetime(2026, 1, 2, tzinfo=UTC))
    assert "managedFields" not in held["metadata"]
    assert "status" not in held


def test_a_route_wakes_the_updates_that_name_it_and_those_whose_rollout_or_canary_does():
    cache = new_cache()
    update, generation = list(cache.stores)[:2]
    (watched,) = [
        each for each in reflectors(None, cache, "", lambda *_: None) if each.kind == HTTP_ROUTE
    ]

    def raw(name, **fields):
        metadata = {"namespace": "search", "name": name, "uid": name, "resourceVersion": "1"}
        return {"metadata": metadata, **fields}

    assert not watched.needed()
    canary = raw("ranker-canary")
    canary["metadata"] |= {
        "labels": {"springtide.dev/update": "c"},
        "annotations": {"springtide.dev/http-route": "shop"},
    }
    cache.insert(DEPLOYMENT, canary)
    assert watched.needed()
    target = {"targetRef": {"name": "ranker"}, "httpRoute": "shop"}
    cache.stores[update].replace([raw("a", spec={"rollout": {"targets": [target]}})], 1)
    rollout = {"targets": [{"name": "ranker", "route": {"name": "shop"}}]}
    of = {"updateRef": {"name": "b"}}
    cache.stores[generation].replace([raw("b-g1", spec=of, status={"rollout": rollout})], 1)
    assert affected_updates(cache, HTTP_ROUTE, made()) == {"a", "b", "c"}
    assert affected_updates(cache, HTTP_ROUTE, made(name="other")) == set()


def test_a_service_without_a_selector_selects_no_pods():
    raw = service("search")
    assert observed_service(raw).selector == Selector((("app", "ranker"),))
    for spec in ({}, {"selector": {}}, {"type": "ExternalName", "selector": {"app": "x"}}):
        assert observed_service({**raw, "spec": spec}).selector is None


def test_a_selector_keeps_its_expressions():
    expression = {"key": "app", "operator": "In", "values": ["a", "b"]}
    read = selector_of({"matchLabels": {"x": "1"}, "matchExpressions": [expression]})
    assert read == Selector((("x", "1"),), (Requirement("app", "In", frozenset("ab")),))
    assert read.keys == {"app", "x"}


def test_an_empty_selector_of_a_budget_selects_all_pods_and_none_selects_none():
    metadata = {"name": "spread"}
    assert observed_budget({"metadata": metadata, "spec": {"selector": {}}}).selector == Selector()
    assert observed_budget({"metadata": metadata, "spec": {}}).selector is None


def test_a_pod_with_two_addresses_counts_once_and_one_that_is_not_ready_not_at_all():
    def endpoint(uid, ready, address):
        conditions = {} if ready is None else {"ready": ready}
        return {"addresses": [address], "conditions": conditions, "targetRef": {"uid": uid}}

    v4 = {"endpoints": [endpoint("a", True, "10.0.0.1"), endpoint("b", False, "10.0.0.2")]}
    v6 = {"endpoints": [endpoint("a", True, "fd::1"), endpoint("c", None, "fd::3")]}
    assert ready_endpoints([v4, v6, {}]) == 2
