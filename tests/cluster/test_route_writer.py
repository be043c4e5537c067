"""Weights of a route and the Service of a canary: what was not seen is never overwritten."""

import pytest
from cluster.actuators import actuator_of
from cluster.routes import route, service

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import HTTP_ROUTE, SERVICE, UPDATE
from springtide_operator.cluster.reading.observed_routes import observed_route, observed_service
from springtide_operator.cluster.writing.actuator import Refused
from springtide_operator.lifecycle.routes.actions import CreateCanaryService, SetRouteWeights
from springtide_operator.lifecycle.routes.weights import WeightChange, changes

pytestmark = pytest.mark.apiserver

SELECTOR = (("springtide.dev/role", "canary"),)
CREATE = CreateCanaryService("ranker-canary", "ranker", SELECTOR)


@pytest.fixture
async def actuator(client, kinds, route_kind, namespace):
    kinds.kubectl("apply", "--server-side", "-f", str(route_kind))
    kinds.wait_for_crds()
    return await actuator_of(client, namespace)


def meta(actuator, namespace):
    from springtide_api.objects import parse_update

    return parse_update(actuator.cache.get(UPDATE, namespace, "ranker")).metadata


def shift(raw, percent):
    seen = observed_route("shop", raw)
    return SetRouteWeights("shop", seen.uid, changes(seen, "ranker", {0: 100}, percent))


def weights(raw):
    return [each["weight"] for each in raw["spec"]["rules"][0]["backendRefs"]]


async def test_only_weights_change_and_the_rest_of_a_route_stays(actuator, client, namespace):
    before = await client.create(HTTP_ROUTE, route(namespace))
    await actuator.execute(meta(actuator, namespace), shift(before, 10))
    after = await client.get(HTTP_ROUTE, namespace, "shop")
    assert weights(after) == [90, 10]
    assert weights(actuator.cache.get(HTTP_ROUTE, namespace, "shop")) == [90, 10]
    for each in after["spec"]["rules"][0]["backendRefs"]:
        each.pop("weight")
    for each in before["spec"]["rules"][0]["backendRefs"]:
        each.pop("weight")
    assert after["spec"] == before["spec"]


async def test_a_backend_without_a_weight_counts_as_1(client, actuator, namespace):
    backends = [{"name": "ranker", "port": 80}, {"name": "ranker-canary", "port": 80, "weight": 0}]
    made = await client.create(HTTP_ROUTE, route(namespace, backends=backends))
    assert [each.weight for each in observed_route("shop", made).backends] == [1, 0]


async def test_a_change_of_the_status_by_the_gateway_does_not_make_a_patch_outdated(
    actuator, client, namespace
):
    before = await client.create(HTTP_ROUTE, route(namespace))
    accepted = {
        "type": "Accepted",
        "status": "True",
        "reason": "Accepted",
        "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    parent = {
        "parentRef": {"name": "web"},
        "controllerName": "example.com/gateway",
        "conditions": [accepted],
    }
    add = [{"op": "add", "path": "/status", "value": {"parents": [parent]}}]
    await client.patch(HTTP_ROUTE, namespace, "shop", add, manager="gw", subresource="status")
    await actuator.execute(meta(actuator, namespace), shift(before, 10))
    assert weights(await client.get(HTTP_ROUTE, namespace, "shop")) == [90, 10]


@pytest.mark.survives(
    "Routes",
    "another client changes weights or the rules of an HTTPRoute, or replaces the route, between "
    "the operator's read and its write",
    "nothing is written, and the route is read again",
)
@pytest.mark.parametrize("change", ["weight", "order", "uid"])
async def test_a_route_that_was_changed_since_it_was_seen_is_read_again(
    actuator, client, namespace, change
):
    before = await client.create(HTTP_ROUTE, route(namespace))
    entries = before["spec"]["rules"][0]["backendRefs"]
    path = "/spec/rules/0/backendRefs"
    if change == "uid":
        await client.delete(HTTP_ROUTE, namespace, "shop", uid=before["metadata"]["uid"])
        await client.create(HTTP_ROUTE, route(namespace))
    else:
        wanted = entries[::-1] if change == "order" else [{**entries[0], "weight": 50}, entries[1]]
        replace = [{"op": "replace", "path": path, "value": wanted}]
        await client.patch(HTTP_ROUTE, namespace, "shop", replace, manager="another")
    live = await client.get(HTTP_ROUTE, namespace, "shop")
    with pytest.raises(errors.PatchOutdated):
        await actuator.execute(meta(actuator, namespace), shift(before, 10))
    after = await client.get(HTTP_ROUTE, namespace, "shop")
    assert after["spec"] == live["spec"]
    known = actuator.cache.get(HTTP_ROUTE, namespace, "shop")
    assert known["spec"] == live["spec"]
    assert known["metadata"]["changedBy"]


async def test_a_route_that_was_deleted_meanwhile_is_written_by_no_one(actuator, client, namespace):
    before = await client.create(HTTP_ROUTE, route(namespace))
    await client.delete(HTTP_ROUTE, namespace, "shop", uid=before["metadata"]["uid"])
    with pytest.raises(errors.NotFound):
        await actuator.execute(meta(actuator, namespace), shift(before, 10))


async def test_a_weight_that_the_api_server_refuses_is_a_refusal(actuator, client, namespace):
    before = await client.create(HTTP_ROUTE, route(namespace))
    wrong = WeightChange(0, 0, "ranker", 100, -1)
    action = SetRouteWeights("shop", before["metadata"]["uid"], (wrong,))
    with pytest.raises(Refused, match="HTTPRoute shop is refused") as refused:
        await actuator.execute(meta(actuator, namespace), action)
    assert refused.value.reason == "PatchRefused"


async def test_the_canarys_service_has_the_ports_of_the_owners_and_no_owner(
    actuator, client, namespace
):
    await client.create(SERVICE, service(namespace))
    for _ in range(2):  # after a crash it is created again
        await actuator.execute(meta(actuator, namespace), CREATE)
    made = await client.get(SERVICE, namespace, "ranker-canary")
    assert made["spec"]["selector"] == dict(SELECTOR)
    (port,) = made["spec"]["ports"]
    assert port == {
        "name": "http",
        "port": 80,
        "targetPort": 8000,
        "protocol": "TCP",
        "appProtocol": "http",
    }
    assert made["metadata"]["labels"] == {"springtide.dev/update": "ranker"}
    assert "ownerReferences" not in made["metadata"]
    owners = observed_service(await client.get(SERVICE, namespace, "ranker"))
    assert observed_service(made).ports == owners.ports == ("http 80/TCP to 8000",)


@pytest.mark.survives(
    "Routes",
    "a Service of another client has the name of the canary's Service",
    "it is neither used nor changed; the message names it",
)
async def test_a_service_of_another_client_is_refused_by_name(actuator, client, namespace):
    await client.create(SERVICE, service(namespace))
    theirs = await client.create(SERVICE, service(namespace, "ranker-canary"))
    with pytest.raises(Refused, match="Service ranker-canary exists and does not belong") as error:
        await actuator.execute(meta(actuator, namespace), CREATE)
    assert error.value.reason == "NameCollision"
    assert await client.get(SERVICE, namespace, "ranker-canary") == theirs


async def test_without_the_owners_service_none_is_created(actuator, client, namespace):
    with pytest.raises(errors.Conflict, match="Service ranker does not exist"):
        await actuator.execute(meta(actuator, namespace), CREATE)
