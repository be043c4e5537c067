"""A canary by Gateway with a real API server: its weights, its Service, and crashes at its writes.

An operator that ends before or after any write leaves the same route: no request for a canary whose
pods are gone, and the owner's weights at the end.
"""

import asyncio
import contextlib

import pytest
from cluster.routes import route, service
from faults.crashing import crash_at_writes, crash_during
from faults.directing import directed
from faults.life import LIFE, play
from faults.playing import Recorder
from lifecycle.declared import SPEC

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import (
    DEPLOYMENT,
    ENDPOINT_SLICE,
    HTTP_ROUTE,
    SERVICE,
    UPDATE,
)
from springtide_operator.cluster.watching import optional_kind
from springtide_operator.lifecycle.steps import withdrawal

pytestmark = pytest.mark.apiserver

SIDE_BY_SIDE = 12
SAMPLE = 9
"""Every so many of the crashes are tried in each run of the tests."""

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

    async def before_write(self, number, verb, path):
        if verb == "DELETE" and path.endswith("/deployments/ranker-canary"):
            self.at_deletion.append(await weights(self.client, self.namespace))

    async def after_write(self, number, verb, path):
        if "/httproutes/" in path:
            self.weights.append(await weights(self.client, self.namespace))


async def weights(client, namespace):
    raw = await client.get(HTTP_ROUTE, namespace, "shop")
    return tuple(each["weight"] for each in raw["spec"]["rules"][0]["backendRefs"])


async def on_generation_one(routed, *hooks):
    """Generation 1 is live behind a route; the next one has steps."""
    ground, following = routed
    scene = await directed(ground)
    await scene.client.create(HTTP_ROUTE, route(scene.namespace))
    await scene.client.create(SERVICE, service(scene.namespace))
    await scene.declare(rollout={**SPEC["rollout"], "targets": [TARGET], "strategy": STRATEGY})
    following.append(asyncio.create_task(follow(scene)))
    await scene.start(*hooks)
    await play(scene, LIFE[:2])
    scene.world.months.append("2025-03")
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


async def promoted(scene):
    """The canary passes its steps."""
    await scene.ask("run@2")
    await scene.until(lambda _: is_over(scene, "Live", 2))


async def aborted(scene):
    """A user requests a rollback during the first step."""
    await scene.ask("run@2")
    await scene.until(lambda _: state(scene).get("weightSeenAt"))
    await scene.ask("rollback.g2@3")
    await scene.until(lambda _: is_over(scene, "RolledBack", 1))


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


@pytest.mark.survives(
    "Routes",
    "a canary by Gateway passes its steps on the API server",
    "each step writes its weights; at the end the owner's are back before the canary is deleted",
)
async def test_a_canary_gets_the_weight_of_each_step_and_none_before_its_pods_go(routed):
    scene = await on_generation_one(routed)
    witness = Witness(scene.client, scene.namespace)
    scene.operators[-1].client.write_hooks.append(witness)
    await scene.ask("run@2")
    await scene.until(lambda _: state(scene).get("weightSeenAt"))
    canary = await scene.deployment("ranker-canary")
    labels = canary["spec"]["template"]["metadata"]["labels"]
    assert "app" not in labels
    assert canary["spec"]["selector"] == {"matchLabels": {"springtide.dev/canary": "ranker-canary"}}
    made = await scene.client.get(SERVICE, scene.namespace, "ranker-canary")
    assert made["spec"]["selector"].items() <= labels.items()
    await scene.until(lambda _: is_over(scene, "Live", 2))
    assert witness.weights == [(90, 10), (50, 50), (100, 0)]
    assert witness.at_deletion == [(100, 0)]
    assert await problems(scene, live=2) == []


async def test_a_rollback_during_a_step_restores_the_weights_before_the_pods_go(routed):
    scene = await on_generation_one(routed)
    witness = Witness(scene.client, scene.namespace)
    scene.operators[-1].client.write_hooks.append(witness)
    await aborted(scene)
    assert (witness.weights, witness.at_deletion) == ([(90, 10), (100, 0)], [(100, 0)])
    assert await problems(scene, live=1) == []


@pytest.mark.survives(
    "Routes",
    "a GitOps tool sets the weights of an HTTPRoute back during a step",
    "the step holds with FieldConflict, nothing is overwritten, and it continues with the weights "
    "of the message",
)
async def test_weights_that_git_sets_back_hold_the_step(routed):
    scene = await on_generation_one(routed)
    await scene.ask("run@2")
    await scene.until(lambda _: state(scene).get("weightSeenAt"))
    body = route(scene.namespace)
    del body["apiVersion"], body["kind"]
    await scene.client.apply(HTTP_ROUTE, body, manager="argocd", force=True)
    message = "changed by argocd; the step continues once they are 90 and 10 again"
    await scene.until(lambda _: message in scene.update_status["progress"]["waitingFor"])
    assert state(scene).get("heldSince")
    assert await weights(scene.client, scene.namespace) == (100, 0)
    body["spec"]["rules"][0]["backendRefs"][0]["weight"] = 90
    body["spec"]["rules"][0]["backendRefs"][1]["weight"] = 10
    await scene.client.apply(HTTP_ROUTE, body, manager="argocd", force=True)
    await scene.until(lambda _: is_over(scene, "Live", 2))
    assert await problems(scene, live=2) == []


GOING_ON = {"promoted": (promoted, 2), "aborted": (aborted, 1)}


async def crash_at(routed, how, every):
    going_on, live = GOING_ON[how]
    recorder = Recorder()
    scene = await on_generation_one(routed, recorder)
    before = len(recorder.writes)
    await going_on(scene)
    assert await problems(scene, live=live) == []

    async def disturbed(crash):
        scene = await on_generation_one(routed)
        await crash_during(scene, crash, going_on(scene))
        return await problems(scene, live=live)

    numbers = range(1, len(recorder.writes) - before + 1)
    return await crash_at_writes(numbers, disturbed, every=every, side_by_side=SIDE_BY_SIDE)


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes during a canary by Gateway; tested at some writes",
    "the next operator continues; the owner's weights are back before canary pods go",
)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", GOING_ON)
async def test_a_crash_at_some_writes_changes_nothing(routed, how):
    assert await crash_at(routed, how, SAMPLE) == {}


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes during a canary by Gateway; tested at every write",
    "the next operator continues; the owner's weights are back before canary pods go",
)
@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how", GOING_ON)
async def test_a_crash_at_every_write_changes_nothing(routed, how):
    assert await crash_at(routed, how, 1) == {}
