"""Lives that begin where another one has come to rest: with copies of its objects.

Copies take twenty requests where import and first generation take hundreds. What is not there at
rest, or is made again by itself, is not copied: Leases, Jobs and pods, Events, EndpointSlices.
"""

import asyncio
import copy
import itertools
import json
import os
from dataclasses import dataclass
from typing import Any

from faults.playing import WATCHED, Scene
from lifecycle.world import World
from patience import within

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import (
    DEPLOYMENT,
    GENERATION,
    HTTP_ROUTE,
    JOB,
    NAMESPACE,
    REPLICA_SET,
    SERVICE,
    UPDATE,
    version,
)

COPIED = (UPDATE, DEPLOYMENT, GENERATION, REPLICA_SET, SERVICE, HTTP_ROUTE)
"""Owners come before what they own."""
REST_SECONDS = 1.0
RESTLESS_SECONDS = 180
GIVEN = ("uid", "resourceVersion", "generation", "creationTimestamp", "managedFields")
"""Metadata that the API server writes."""
ADDRESSES = ("clusterIP", "clusterIPs")
"""Fields of a Service's spec that no other one may have."""
DIRECTED = ("held", "refused", "unready", "pods_ready", "templates")
"""What the controllers of a scene were directed to do, and the digests that they have seen."""

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Snapshot:
    """A scene at rest, as it was at one moment."""

    scene: Scene
    objects: list[tuple[Any, Any]]
    """Pairs of kind and object, in the order of `COPIED`."""
    directed: dict[str, Any]
    """Attributes of the scene: `DIRECTED`."""
    started: str
    """Every Job that ever was, by uid, as JSON."""
    world: World

    @classmethod
    async def of(cls, scene):
        """Wait until nothing changes in a scene, and record it.

        Raises:
            AssertionError: it has Jobs.
        """
        objects = await _at_rest(scene)
        assert not (await scene.client.list_all(JOB, scene.namespace)).items
        directed = copy.deepcopy({name: getattr(scene, name) for name in DIRECTED})
        return cls(scene, objects, directed, json.dumps(scene.started), _copied(scene.world))

    async def restore(self):
        """Create the objects again in a new namespace; return its scene, without an operator."""
        ground, namespace = self.scene.ground, f"restored-{os.getpid()}-{next(_numbers)}"
        await ground.client.create(NAMESPACE, {"metadata": {"name": namespace}})
        scene = type(self.scene)(ground, namespace)
        words = {self.scene.namespace: namespace}
        objects = await _create(ground.client, self.objects, words)
        vars(scene).update(copy.deepcopy(self.directed))
        scene.started = json.loads(replaced(self.started, words))
        scene.world = _copied(self.world)
        await scene.until(lambda _: all(_is_watched(scene, *each) for each in objects))
        ground.scenes[namespace] = scene
        return scene


async def _at_rest(scene):
    """Return the objects of a scene once they stay as they are.

    Raises:
        TimeoutError: they change for minutes.
    """
    before, now = None, await objects_of(scene)
    async with within(RESTLESS_SECONDS):
        while now != before:
            await asyncio.sleep(REST_SECONDS)
            before, now = now, await objects_of(scene)
    return now


async def objects_of(scene):
    """Read what is copied of a scene, as pairs of kind and object."""
    found = []
    for kind in COPIED:
        try:
            listed = await scene.client.list_all(kind, scene.namespace)
        except errors.NotFound:  # the kind is not installed
            continue
        found += [(kind, raw) for raw in listed.items]
    return found


def _is_watched(scene, kind, raw):
    if kind not in WATCHED:
        return True
    held = scene.ground.cache.get(kind, scene.namespace, raw["metadata"]["name"])
    return held is not None and version(held) >= version(raw)


async def _create(client, objects, words):
    """Create objects like these, with the same status and owners of fields; return all of them.

    Args:
        client: of the API server.
        objects: as they are elsewhere.
        words: what is written instead of which; the uids are added.
    """
    made = []
    for kind, raw in objects:
        new = await client.create(kind, _unborn(replaced(raw, words)))
        made.append(new)
        name, uid, other = raw["metadata"]["name"], raw["metadata"]["uid"], new["metadata"]["uid"]
        words[uid] = other
        if kind == UPDATE:  # in names of Jobs
            words[f"{name}-{uid[:5]}-"] = f"{name}-{other[:5]}-"
    pairs = zip(objects, made, strict=True)
    finishing = [_finish(client, kind, replaced(raw, words), new) for (kind, raw), new in pairs]
    finished = await asyncio.gather(*finishing)
    return [(kind, new) for (kind, _), new in zip(objects, finished, strict=True)]


def _unborn(raw):
    """Return what is sent to create an object."""
    given = ADDRESSES if raw["kind"] == SERVICE.name else ()
    return {
        "apiVersion": raw["apiVersion"],
        "kind": raw["kind"],
        "metadata": {key: part for key, part in raw["metadata"].items() if key not in GIVEN},
        "spec": {key: part for key, part in raw["spec"].items() if key not in given},
    }


async def _finish(client, kind, raw, new):
    """Give a new object the status of another, and to its fields the same owners."""
    place = raw["metadata"]["namespace"], raw["metadata"]["name"]
    if raw.get("status") not in (None, new.get("status")):
        since = raw["metadata"].get("generation", 0) - new["metadata"].get("generation", 0)
        body = {**new, "status": _observed_later(raw["status"], since)}
        new = await client._write("PUT", kind.path(*place, "status"), body, "application/json")
    # In a write that changes nothing else the API server accepts who owns what.
    owners = {"managedFields": raw["metadata"]["managedFields"]}
    return await client.replace(kind, {**new, "metadata": {**new["metadata"], **owners}})


def _observed_later(value, since):
    """Lower each `observedGeneration` of a status by the changes that a new object has not had."""
    if isinstance(value, list):
        return [_observed_later(each, since) for each in value]
    if not isinstance(value, dict):
        return value
    lowered = {key: _observed_later(part, since) for key, part in value.items()}
    if "observedGeneration" in value:
        lowered["observedGeneration"] = max(0, value["observedGeneration"] - since)
    return lowered


def replaced(value, words):
    """Replace words in a text, or in all that an object contains."""
    if not isinstance(value, str):
        return json.loads(replaced(json.dumps(value), words))
    for word, other in words.items():
        value = value.replace(word, other)
    return value


def _copied(world):
    """Copy a world but for its uids, which come from a generator and are not of the API server."""
    return copy.deepcopy(world, {id(world.uids): World().uids})
