"""A canary from its start to its end, and aborted, with a real API server.

An operator that ends before or after any write of a canary leaves the same objects: the target gets
the generation after the last step, or never, and no canary is left.
"""

import asyncio
import contextlib
import json

import pytest
from faults.copying import Snapshot
from faults.crashing import crash_at_writes, crash_during
from faults.directing import condition, directed
from faults.life import LIFE, play
from faults.owner import ranker, run, variables
from faults.playing import Recorder
from lifecycle.declared import SPEC

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import DEPLOYMENT, UPDATE

pytestmark = pytest.mark.apiserver

SIDE_BY_SIDE = 12
SAMPLE = 15
"""Every so many of the crashes are tried in each run of the tests."""

STEPS = [{"weight": 33, "duration": "10s"}, {"weight": 50, "duration": "10s"}]
STRATEGY = {"type": "Canary", "canary": {"steps": STEPS}}


async def on_generation_one(ground, *hooks):
    """Generation 1 is live; the next one has steps."""
    scene = await directed(ground)
    await scene.declare(rollout=rollout(STRATEGY))
    await scene.start(*hooks)
    await play(scene, LIFE[:2])
    scene.world.months.append("2025-03")
    return scene


def rollout(strategy):
    target = {"targetRef": {"name": "ranker"}, "container": "server"}
    return {**SPEC["rollout"], "targets": [target], "strategy": strategy}


def state(scene, number=2):
    return scene.generation(number).get("rollout") or {}


def digest(scene, number):
    return (scene.generation(number).get("artifact") or {}).get("servedDigest", "")


def canary(scene):
    """The canary's Deployment, as watched."""
    return scene.ground.cache.get(DEPLOYMENT, scene.namespace, "ranker-canary")


def finalizers(scene):
    raw = scene.ground.cache.get(UPDATE, scene.namespace, "shop")
    return raw["metadata"].get("finalizers") or []


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


def is_over(scene, outcome, live):
    """Whether generation 2 has this outcome, and status and finalizer show its end."""
    ended = scene.generation(2).get("outcome") == outcome and not finalizers(scene)
    return ended and (scene.update_status.get("live") or {}).get("number") == live


async def problems(scene, *, live):
    """What is not as it must be at the end."""
    target = await scene.deployment()
    served = target["spec"]["template"]["metadata"]["annotations"]["springtide.dev/digest"]
    steps = await scene.events("CanaryStep")
    checks = {
        "served": served == digest(scene, live),
        "canary": await gone(scene),
        "replicas": target["spec"]["replicas"] == 2,
        "steps": len({each for each in steps if "starts again" not in each})
        == (2 if live == 2 else 1),
        "status": scene.update_status["live"]["number"] == live,
    }
    return [name for name, holds in checks.items() if not holds]


async def gone(scene):
    try:
        await scene.deployment("ranker-canary")
    except errors.NotFound:
        return True
    return False


@pytest.mark.survives(
    "Deployments",
    "a canary passes its steps on the API server",
    "the Deployment of the canary is created, scaled and deleted; the target gets the generation "
    "after the last step",
)
async def test_a_canary_passes_its_steps_and_is_removed(ground):
    scene = await on_generation_one(ground)
    await scene.ask("run@2")
    await scene.until(lambda _: canary(scene) is not None)
    labels = canary(scene)["spec"]["selector"]["matchLabels"]
    assert labels == {"app": "ranker", "springtide.dev/role": "canary"}
    await scene.until(lambda _: is_over(scene, "Live", 2))
    assert await problems(scene, live=2) == []


@pytest.mark.survives(
    "Deployments",
    "a rollback is requested during a step of a canary on the API server",
    "the canary is deleted, and the target keeps what it serves",
)
async def test_a_rollback_during_a_step_changes_no_target(ground):
    scene = await on_generation_one(ground)
    before = list(scene.templates)
    await aborted(scene)
    assert await problems(scene, live=1) == []
    assert scene.templates[: len(before)] == before


@pytest.mark.survives(
    "Deployments",
    "an update is deleted during a canary",
    "the canary is deleted before the finalizer of the update goes",
)
async def test_a_deleted_update_takes_its_canary_along(ground):
    scene = await on_generation_one(ground)
    await scene.ask("run@2")
    await scene.until(lambda _: state(scene).get("weightSeenAt"))
    update = await scene.update()
    await scene.client.delete(UPDATE, scene.namespace, "shop", uid=update["metadata"]["uid"])
    await scene.gone()
    assert await gone(scene)
    target = await scene.deployment()
    template = target["spec"]["template"]["metadata"]
    assert template["annotations"]["springtide.dev/digest"] == digest(scene, 1)


@contextlib.asynccontextmanager
async def kept_in_sync(scene, body):
    """A GitOps client applies the owner's manifest every second."""

    async def sync():
        while True:
            await scene.client.apply(DEPLOYMENT, body, manager="argocd-controller", force=True)
            await asyncio.sleep(1)

    syncing = asyncio.create_task(sync())
    yield
    syncing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await syncing


def as_the_owner_wants(deployment):
    """Whether image, replicas and a variable are those of the owner."""
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    level = variables(deployment).get("LOG_LEVEL")
    return (container["image"], level) == ("server:2", "info")


@pytest.mark.survives(
    "Deployments",
    "during a step the owner scales the target and sets its image, a GitOps tool applies the "
    "manifest every second, and the target is deleted and created again",
    "the canary follows, and its step starts again; a missing target holds it with "
    "`TargetNotFound`; the target gets the generation, and no field of the owner is overwritten",
)
async def test_a_canary_follows_all_that_its_owner_does_to_the_target(ground, kinds):
    scene = await on_generation_one(ground)
    first, second = STEPS
    long = {"type": "Canary", "canary": {"steps": [{**first, "duration": "1h"}, second]}}
    await scene.merge({"rollout": {"strategy": long}})
    await scene.ask("run@2")
    await scene.until(lambda _: state(scene).get("weightSeenAt"))
    named = ("deployment/ranker", "-n", scene.namespace)
    await run(kinds, "scale", *named, "--replicas=4")
    await scene.until(lambda _: canary(scene)["spec"]["replicas"] == 2)
    await run(kinds, "set", "image", *named, "server=server:2")
    theirs = json.loads(ranker(scene, {"name": "LOG_LEVEL", "value": "info"}, replicas=4))
    theirs["spec"]["template"]["spec"]["containers"][0]["image"] = "server:2"
    async with kept_in_sync(scene, theirs):
        await scene.until(lambda _: canary(scene) and as_the_owner_wants(canary(scene)))
        await scene.until(lambda _: state(scene).get("weightSeenAt"))
    await run(kinds, "delete", *named)
    stalled = "TargetNotFound"
    await scene.until(lambda _: condition(scene.update_status, "Stalled").get("reason") == stalled)
    assert not await gone(scene)
    async with kept_in_sync(scene, theirs):
        await scene.until(lambda _: serves(scene, 1))
        assert as_the_owner_wants(await scene.deployment("ranker-canary"))
        await scene.merge({"rollout": {"strategy": STRATEGY}})
        await scene.until(lambda _: is_over(scene, "Live", 2))
    target = await scene.deployment()
    assert (serves(scene, 2), await gone(scene)) == (True, True)
    assert (as_the_owner_wants(target), target["spec"]["replicas"]) == (True, 4)
    owned = {}
    for each in target["metadata"]["managedFields"]:
        owned[each["manager"]] = owned.get(each["manager"], "") + str(each["fieldsV1"])
    for field in ("f:image", "f:replicas", "LOG_LEVEL"):
        assert field in owned["argocd-controller"]
        assert field not in owned["springtide:shop"].partition("f:spec")[2]


def serves(scene, number):
    """Whether the target's template has this generation, as watched."""
    raw = scene.ground.cache.get(DEPLOYMENT, scene.namespace, "ranker") or {"spec": None}
    wanted = {"MODEL_DIGEST": digest(scene, number)}
    return bool(raw["spec"]) and wanted.items() <= variables(raw).items()


GOING_ON = {"promoted": (promoted, 2), "aborted": (aborted, 1)}


async def crash_at(ground, how, every):
    going_on, live = GOING_ON[how]
    recorder = Recorder()
    scene = await on_generation_one(ground, recorder)
    snapshot = await Snapshot.of(scene)
    before = len(recorder.writes)
    await going_on(scene)
    assert await problems(scene, live=live) == []

    async def disturbed(crash):
        scene = await snapshot.restore()
        await crash_during(scene, crash, going_on(scene))
        return await problems(scene, live=live)

    numbers = range(1, len(recorder.writes) - before + 1)
    return await crash_at_writes(numbers, disturbed, every=every, side_by_side=SIDE_BY_SIDE)


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes during a canary; tested at some writes",
    "the next operator continues the step, or the removal; no canary is left",
)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", GOING_ON)
async def test_a_crash_at_some_writes_of_a_canary_changes_nothing(ground, how):
    assert await crash_at(ground, how, SAMPLE) == {}


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes during a canary; tested at every write",
    "the next operator continues the step, or the removal; no canary is left",
)
@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how", GOING_ON)
async def test_a_crash_at_every_write_of_a_canary_changes_nothing(ground, how):
    assert await crash_at(ground, how, 1) == {}
