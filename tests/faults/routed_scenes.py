"""A target behind an HTTPRoute on the API server: set-up of the tests of canaries and warm pods."""

import asyncio
import contextlib
import time

import pytest
from cluster.routes import route, service
from faults.directing import directed
from faults.life import LIFE, play
from lifecycle.declared import SPEC
from patience import within

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import (
    DEPLOYMENT,
    ENDPOINT_SLICE,
    HTTP_ROUTE,
    SERVICE,
    UPDATE,
)
from springtide_operator.cluster.watching import optional_kind
from springtide_operator.lifecycle.traffic import withdrawal

SIDE_BY_SIDE = 12

STEPS = [{"weight": 10, "duration": "10s"}, {"weight": 50, "duration": "10s"}]
TARGET = {
    "targetRef": {"name": "ranker"},
    "container": "server",
    "service": "ranker",
    "httpRoute": "shop",
}
STRATEGY = {"type": "Canary", "canary": {"steps": STEPS, "traffic": {"type": "Gateway"}}}
LABEL_SERVICE = "kubernetes.io/service-name"


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """A drain of one second; a route is noticed at once."""
    monkeypatch.setattr(withdrawal, "DRAIN", withdrawal.DRAIN / 15)
    monkeypatch.setattr(optional_kind, "NEEDED_SECONDS", 0.1)


@pytest.fixture
async def routed(ground, kinds, route_kind):
    """The API server with HTTPRoutes; what follows pods ends with the test."""
    kinds.kubectl("apply", "--server-side", "-f", str(route_kind))
    kinds.wait_for_crds()
    following = []
    yield ground, following
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)


class Witness:
    """Notes weights that are written, and the weight of the canary when its pods are deleted."""

    def __init__(self, client, namespace):
        self.client, self.namespace = client, namespace
        self.weights, self.at_deletion = [], []
        self.drained = []
        """Seconds from the last weight that was written to each deletion."""
        self._written = time.monotonic()

    async def before_write(self, number, verb, path):
        if verb == "DELETE" and path.endswith("/deployments/ranker-canary"):
            self.at_deletion.append(await weights(self.client, self.namespace))
            self.drained.append(time.monotonic() - self._written)

    async def after_write(self, number, verb, path):
        if "/httproutes/" in path:
            self._written = time.monotonic()
            self.weights.append(await weights(self.client, self.namespace))

    def problems(self):
        """What is not as it must be at the end: no pods may go that requests are sent to."""
        fine = set(self.at_deletion) == {(100, 0)}
        return [] if fine else [f"weights when canary pods were deleted: {self.at_deletion}"]


async def weights(client, namespace):
    raw = await client.get(HTTP_ROUTE, namespace, "shop")
    return tuple(each["weight"] for each in raw["spec"]["rules"][0]["backendRefs"])


async def on_generation_one(routed, *hooks, **start):
    """Generation 1 is live behind a route; the next one has steps."""
    ground, following = routed
    scene = await directed(ground)
    await scene.client.create(HTTP_ROUTE, route(scene.namespace))
    await scene.client.create(SERVICE, service(scene.namespace))
    await scene.declare(rollout={**SPEC["rollout"], "targets": [TARGET], "strategy": STRATEGY})
    following.append(asyncio.create_task(follow(scene)))
    await scene.start(*hooks, **start)
    await play(scene, LIFE[:2])
    scene.world.months.append("2025-03")
    return scene


async def restored(routed, snapshot):
    """Restore a snapshot of a scene behind a route."""
    _, following = routed
    scene = await snapshot.restore()
    following.append(asyncio.create_task(follow(scene)))
    return scene


async def follow(scene):
    """Report the available canary pods as endpoints of their Service, as a controller does."""
    reported = -1
    while True:
        raw = scene.ground.cache.get(DEPLOYMENT, scene.namespace, "ranker-canary")
        ready = ((raw or {}).get("status") or {}).get("availableReplicas", 0)
        if ready != reported:
            metadata = {"namespace": scene.namespace, "name": "ranker-canary"}
            metadata["labels"] = {LABEL_SERVICE: "ranker-canary"}
            endpoints = [
                {"addresses": [f"10.0.0.{n + 1}"], "conditions": {"ready": True}}
                for n in range(ready)
            ]
            body = {"metadata": metadata, "addressType": "IPv4", "endpoints": endpoints}
            with contextlib.suppress(errors.ApiError):
                await scene.client.apply(ENDPOINT_SLICE, body, manager="controller", force=True)
                reported = ready
        await asyncio.sleep(0.05)


def state(scene, number=2):
    return scene.generation(number).get("rollout") or {}


def is_over(scene, outcome, live):
    """Whether generation 2 has this outcome, and status and finalizer show its end."""
    raw = scene.ground.cache.get(UPDATE, scene.namespace, "shop")
    ended = scene.generation(2).get("outcome") == outcome
    free = not raw["metadata"].get("finalizers")
    return ended and free and (scene.update_status.get("live") or {}).get("number") == live


async def problems(scene, *, live):
    """What is not as it must be at the end."""
    target = await scene.deployment()
    digest = scene.generation(live)["artifact"]["servedDigest"]
    annotations = target["spec"]["template"]["metadata"]["annotations"]
    checks = {
        "served": annotations["springtide.dev/digest"] == digest,
        "weights": await weights(scene.client, scene.namespace) == (100, 0),
        "canary": await is_gone(scene),
        "service": (await scene.client.get(SERVICE, scene.namespace, "ranker-canary")) is not None,
    }
    return [name for name, holds in checks.items() if not holds]


async def is_gone(scene):
    try:
        await scene.deployment("ranker-canary")
    except errors.NotFound:
        return True
    return False


async def weigh(scene, stable, canary):
    """Another client sets the weights of the route."""
    body = route(scene.namespace)
    del body["apiVersion"], body["kind"]
    refs = body["spec"]["rules"][0]["backendRefs"]
    for ref, weight in zip(refs, (stable, canary), strict=True):
        ref["weight"] = weight
    await scene.client.apply(HTTP_ROUTE, body, manager="argocd", force=True)


async def weight_returned(scene):
    """Wait until the canary has no weight, in status and in the route."""
    await scene.until(lambda _: not state(scene).get("weightSeenAt"))
    await scene.until(lambda _: not route_of(scene).get("weight"))
    async with within(60):
        while await weights(scene.client, scene.namespace) != (100, 0):
            await asyncio.sleep(0.1)


async def pause(scene, *, paused):
    """The owner of the target pauses it, or lets it go on."""
    metadata = {"namespace": scene.namespace, "name": "ranker"}
    body = {"metadata": metadata, "spec": {"paused": paused}}
    await scene.client.apply(DEPLOYMENT, body, manager="person", force=True)


async def make_canary_pods(scene, *, ready):
    """All pods of the canary crash, or all are available again."""
    raw = await scene.deployment("ranker-canary")
    wanted, there = raw["spec"]["replicas"], raw["spec"]["replicas"] if ready else 0
    counted = {"replicas": wanted, "updatedReplicas": wanted, "unavailableReplicas": wanted - there}
    status = {**counted, "readyReplicas": there, "availableReplicas": there}
    seen = raw["metadata"]["generation"]
    await scene.status(DEPLOYMENT, raw, {"observedGeneration": seen, **status})


def route_of(scene):
    """The route of the target, as it is recorded of generation 2."""
    (recorded,) = state(scene)["targets"]
    return recorded["route"]
