"""What kopf does for us and, above all, what it leaves alone."""

import asyncio
import itertools
from pathlib import Path

import pytest
from handlers.edge import Edge
from lifecycle.declared import SPEC
from local_cluster.apiserver import ApiServer

from springtide_operator.assembly import Operator
from springtide_operator.cluster.api.connection import Connection
from springtide_operator.cluster.api.kinds import GENERATION, NAMESPACE, UPDATE
from springtide_operator.handlers import Backoffs
from springtide_operator.settings import Settings

pytestmark = pytest.mark.apiserver

CRDS = Path(__file__).parents[2] / "crds"
FOREIGN = "kopf.zalando.org/KopfFinalizerMarker"


def test_requests_of_kopf_are_retried_without_limit_at_most_every_30_s():
    backoffs = Backoffs()
    assert not hasattr(backoffs, "__len__")
    first, again = [list(itertools.islice(iter(backoffs), 100)) for _ in range(2)]
    assert first[0] <= 1
    assert again[0] <= 1
    assert max(first) <= 30
    assert max(first) > 1


async def test_kopf_does_not_write_to_updates_and_generations(stage):
    await stage.declare(trigger={})
    body = {"metadata": {"namespace": stage.namespace, "name": "shop", "finalizers": [FOREIGN]}}
    await stage.client.apply(UPDATE, body, manager="another-operator", force=True)
    await stage.start()
    await stage.until(lambda status: status.get("history"))
    await stage.until(lambda status: status.get("phase") == "Idle")
    await asyncio.sleep(3)

    held = [await stage.update(), *(await stage.client.list_all(GENERATION, stage.namespace)).items]
    assert len(held) == 2
    for raw in held:
        assert "annotations" not in raw["metadata"]
        managers = {each["manager"] for each in raw["metadata"]["managedFields"]}
        assert not [each for each in managers if "kopf" in each]
    assert held[0]["metadata"]["finalizers"] == [FOREIGN]


async def test_handlers_feed_what_is_created_changed_and_deleted(stage):
    await stage.start()
    await stage.declare(trigger={}, suspend=True)
    await stage.seen(UPDATE, "shop")
    await stage.until(lambda status: status.get("phase") == "Suspended")
    uid = (await stage.update())["metadata"]["uid"]
    await stage.client.delete(UPDATE, stage.namespace, "shop", uid=uid)
    async with asyncio.timeout(10):
        while stage.operator.cache.get(UPDATE, stage.namespace, "shop") is not None:
            await asyncio.sleep(0.05)


async def test_with_one_namespace_no_other_is_watched(stage):
    other = f"{stage.namespace}-other"
    await stage.client.create(NAMESPACE, {"metadata": {"name": other}})
    await stage.start()
    await stage.declare(trigger={}, suspend=True)
    update = await stage.update()
    place = {"namespace": other, "name": "elsewhere"}
    await stage.client.create(UPDATE, {**update, "metadata": place})
    await stage.seen(UPDATE, "shop")
    await asyncio.sleep(3)
    held = {raw["metadata"]["name"] for raw in stage.operator.cache.stores[UPDATE].all()}
    assert held == {"shop"}


@pytest.fixture
def bare():
    """An API server that does not know our kinds."""
    server = ApiServer()
    try:
        server.open()
        yield server
    finally:
        server.close()


@pytest.mark.survives(
    "API server",
    "has no CRDs of ours while the operator starts",
    "the operator waits; once they exist, updates are seen at once, without a restart",
)
async def test_kinds_that_are_installed_after_the_operator_are_watched(bare):
    connection = await Connection.open(bare.kubeconfig)
    operator = Operator(Settings("trainer", "http://operator:8080"), connection)
    edge = Edge(operator)
    starting = asyncio.create_task(edge.start())
    await asyncio.sleep(3)
    assert not operator.working.is_set()
    for crd in sorted(CRDS.glob("*.yaml")):
        bare.kubectl("apply", "--server-side", "-f", str(crd))
    await starting
    body = {"apiVersion": UPDATE.api_version, "kind": UPDATE.name, "spec": SPEC}
    place = {"namespace": "default", "name": "shop"}
    await operator.client.create(UPDATE, {**body, "metadata": place})
    async with asyncio.timeout(60):
        while operator.cache.get(UPDATE, "default", "shop") is None:
            await asyncio.sleep(0.1)
    await edge.drop()
    await connection.close()


async def test_kopf_does_not_log_in_before_the_operator_works(kinds, namespace):
    connection = await Connection.open(kinds.kubeconfig)
    settings = Settings(
        "trainer", "http://operator:8080", namespace=namespace, lease_namespace="does-not-exist"
    )
    operator = Operator(settings, connection)
    edge = Edge(operator)
    asked = []
    operator.sessions.count = lambda verb, status: asked.append(status)
    starting = asyncio.create_task(edge.start())
    await asyncio.sleep(3)
    assert asked == []
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await edge.drop()
    await connection.close()
