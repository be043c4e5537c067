"""HTTPRoutes are watched only where their CRD is installed, and only while an update needs them."""

import asyncio

import pytest
from cluster.routes import route
from patience import within

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import HTTP_ROUTE
from springtide_operator.cluster.reading.routing_reader import RoutingReader
from springtide_operator.cluster.watching import optional_kind, watches
from springtide_operator.cluster.watching.optional_kind import OptionalReflector

pytestmark = pytest.mark.apiserver

CRD = "httproutes.gateway.networking.k8s.io"


@pytest.fixture
def without_kind(apiserver, route_kind):
    """The API server without the kind; it is there again afterwards."""
    apiserver.kubectl("delete", "crd", CRD, "--ignore-not-found")
    yield lambda: installed(apiserver, route_kind)
    installed(apiserver, route_kind)


def installed(apiserver, route_kind):
    apiserver.kubectl("apply", "--server-side", "-f", str(route_kind))
    apiserver.wait_for_crds()


@pytest.fixture
def soon(monkeypatch):
    for name in ("NEEDED_SECONDS", "STARTING_SECONDS", "UNAVAILABLE_SECONDS"):
        monkeypatch.setattr(optional_kind, name, 0.05)


def reflector(client, namespace, woken, needed=lambda: True):
    cache = watches.new_cache()
    changed = lambda kind, raw: woken.append(raw["metadata"]["name"])  # noqa: E731
    store = cache.stores[HTTP_ROUTE]
    made = OptionalReflector(
        client,
        HTTP_ROUTE,
        store,
        changed,
        namespace=namespace,
        backoff=0.5,
        needed=needed,
        install="the CRDs of the Gateway API",
    )
    return cache, made


async def until(condition):
    async with within(60):
        while not condition():
            await asyncio.sleep(0.02)


async def created(client, namespace):
    """A route, once the API server serves the kind."""
    async with within(60):
        while True:
            try:
                return await client.create(HTTP_ROUTE, route(namespace))
            except errors.NotFound:
                await asyncio.sleep(0.05)


@pytest.mark.survives(
    "Routes",
    "the CRD of HTTPRoute is absent at the start, is installed later, and is removed",
    "the operator works; routes are found without a restart; a canary waits with the reason",
)
async def test_a_crd_is_found_when_it_is_installed_and_missed_when_it_is_removed(
    client, namespace, without_kind, apiserver, soon
):
    woken = []
    cache, reflected = reflector(client, namespace, woken)
    reader, store = RoutingReader(cache, None), cache.stores[HTTP_ROUTE]
    assert cache.stores[HTTP_ROUTE].required is False
    task = asyncio.create_task(reflected.run())
    try:
        await until(lambda: store.unavailable)
        assert reader._route(namespace, "shop").unavailable == (
            "the API server does not serve httproutes of gateway.networking.k8s.io; install the "
            "CRDs of the Gateway API"
        )
        assert reflected.watch_health.last_error == "", "it is no failure of the API server"
        without_kind()
        await created(client, namespace)
        await until(lambda: woken == ["shop"])
        assert [each.name for each in reader._route(namespace, "shop").backends] == [
            "ranker",
            "ranker-canary",
        ]
        apiserver.kubectl("delete", "crd", CRD)
        await until(lambda: store.unavailable)
        assert store.get(namespace, "shop") is None
        without_kind()
        await until(lambda: not store.unavailable)
        assert reader._route(namespace, "shop").uid == ""
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_nothing_is_read_before_an_update_needs_it(soon):
    class Client:
        reads = 0

        async def list_all(self, *_, **__):
            self.reads += 1
            raise errors.Forbidden("not allowed")

    needed, client = [], Client()
    cache, reflected = reflector(client, "search", [], needed=lambda: bool(needed))
    task = asyncio.create_task(reflected.run())
    await asyncio.sleep(0.3)
    assert client.reads == 0
    assert reflected.watch_health.age() == 0
    needed.append("shop")
    await until(lambda: cache.stores[HTTP_ROUTE].unavailable)
    assert cache.stores[HTTP_ROUTE].unavailable == (
        "the operator may not list httproutes of gateway.networking.k8s.io; install the RBAC "
        "rules of its version of the chart"
    )
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
