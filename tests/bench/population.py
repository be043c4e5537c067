"""Existing updates: a Deployment that serves, and 3 generations each."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lifecycle.declared import SPEC
from lifecycle.world import World

from springtide_api import names
from springtide_api.objects import parse_update
from springtide_operator.cluster.api.client import Client
from springtide_operator.cluster.api.clock import ServerClock
from springtide_operator.cluster.api.connection import Connection
from springtide_operator.cluster.api.kinds import DEPLOYMENT, GENERATION, NAMESPACE, UPDATE
from springtide_operator.cluster.api.limits import Limits
from springtide_operator.lifecycle.state.plan import Serve, Serving
from springtide_operator.manifests import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from local_cluster.apiserver import ApiServer

NAMESPACES = 20
AT_ONCE = 20


@contextlib.asynccontextmanager
async def connected(server: ApiServer) -> AsyncIterator[Client]:
    """Open a client without a rate limit that waits long for an answer."""
    connection = await Connection.open(server.kubeconfig)
    limits = Limits(per_second=5000, burst=5000, in_flight=AT_ONCE, monotonic=time.monotonic)
    try:
        yield Client(connection, ServerClock(time.monotonic), limits, timeout=60)
    finally:
        await connection.close()


async def at_rest(server: ApiServer, many: int) -> None:
    """Create so many updates in the state after their second trained generation was promoted."""
    world = lived()
    async with connected(server) as client:
        for number in range(NAMESPACES):
            await client.create(NAMESPACE, {"metadata": {"name": f"rest-{number}"}})
        waiting = asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with waiting:
                await _one(client, world, *placed(number))

        await asyncio.gather(*map(one, range(many)))


def placed(number: int) -> tuple[str, str]:
    """Return namespace and name of one of the updates."""
    return f"rest-{number % NAMESPACES}", f"u{number}"


def lived() -> World:
    """Return a world with an imported and two trained generations, the last one live."""
    world = World(seeded=False)
    world.edit(trigger={"onData": {"pollInterval": "24h"}})
    world.settle()
    for month in ("2025-01", "2025-02", "2025-03"):
        world.months.append(month)
        world.now = world.now.replace(day=world.now.day + 2)
        world.rounds(8)
    assert len(world.generations) == 3, sorted(world.generations)
    world.edit(trigger={})
    world.settle()
    return world


async def _one(client: Client, world: World, namespace: str, name: str) -> None:
    place = {"namespace": namespace, "name": name}
    targets = [{"targetRef": {"name": name}, "container": "server"}]
    spec = {**SPEC, "trigger": {}, "rollout": {"targets": targets}}
    body = {"apiVersion": UPDATE.api_version, "kind": UPDATE.name, "metadata": place}
    made = await client.create(UPDATE, {**body, "spec": spec})
    update = parse_update(made)
    for generation in world.generations.values():
        await _generation(client, world, update.metadata, generation, name)
    status = _renamed(world.update.status.plain(), name)
    await _status(client, UPDATE, place, status)
    await _deployment(client, world, update, name)


async def _generation(client: Client, world: World, meta: Any, held: Any, name: str) -> None:
    place = {"namespace": meta.namespace, "name": f"{name}-g{held.spec.number}"}
    body = {
        "apiVersion": GENERATION.api_version,
        "kind": GENERATION.name,
        "metadata": {
            **place,
            "labels": {names.LABEL_UPDATE: name, names.LABEL_UPDATE_UID: meta.uid},
        },
        "spec": _renamed(held.spec.plain(), name),
    }
    await client.create(GENERATION, body)
    await _status(client, GENERATION, place, _renamed(held.status.plain(), name))


async def _deployment(client: Client, world: World, update: Any, name: str) -> None:
    labels = {"app": name}
    place = {"namespace": update.metadata.namespace, "name": name}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": "server", "image": "server"}]},
    }
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    made = await client.create(DEPLOYMENT, {"metadata": place, "spec": spec})
    live = max(world.generations.values(), key=lambda held: held.spec.number)
    artifact = live.status.artifact
    assert artifact is not None
    carried = Serving(live.spec.number, artifact.served_digest, artifact.uri)
    target = update.spec.rollout.targets[0]
    serve = Serve(target, made["metadata"]["uid"], carried, live.spec.number)
    body = serving.deployment(update.metadata, replace(serve))
    served = await client.apply(DEPLOYMENT, body, manager=names.field_manager(name))
    counted = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    status = {"observedGeneration": served["metadata"]["generation"], **dict.fromkeys(counted, 2)}
    await _status(client, DEPLOYMENT, place, status)


async def _status(client: Client, kind: Any, place: dict[str, str], status: Any) -> None:
    body = {"metadata": place, "status": status}
    manager = names.FIELD_MANAGER
    await client.apply(kind, body, manager=manager, force=True, subresource="status")


def _renamed(value: Any, name: str) -> Any:
    """Rename the update shop and the Deployment ranker in an object of the first spec."""
    if isinstance(value, dict):
        renamed = {key: _renamed(each, name) for key, each in value.items()}
        # Its spec was never edited here: a start must find nothing to write.
        return renamed | ({"observedGeneration": 1} if "observedGeneration" in value else {})
    if isinstance(value, list):
        return [_renamed(each, name) for each in value]
    if isinstance(value, str):
        named = value.replace("shop-g", f"{name}-g")
        return name if named in {"shop", "ranker"} else named
    return value
