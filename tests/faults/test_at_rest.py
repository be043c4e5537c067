"""At rest nothing is written, neither for an idle update nor for one that waits."""

import asyncio
import json

import pytest
from faults.directing import condition, directed
from faults.life import LIFE, play
from faults.owner import ranker
from faults.playing import Recorder

from springtide_operator.cluster.api.kinds import DEPLOYMENT, EVENT, POD
from springtide_operator.cluster.watching.watches import OWN

pytestmark = pytest.mark.apiserver

SETTLING_SECONDS = 12
"""What only the progress says is written so late."""
REST_SECONDS = 60
RESYNC_SECONDS = 5
"""Looks at every update so often, that more looks than in hours of rest find nothing to write."""


async def lived(ground, acts, **changes):
    scene = await directed(ground)
    await scene.declare(**changes)
    await begun(scene)
    await play(scene, acts)
    return scene


async def begun(scene):
    scene.recorder = Recorder()
    await scene.start(scene.recorder, resync_seconds=RESYNC_SECONDS)


async def idle(ground):
    return await lived(ground, LIFE[:2])


async def held(ground):
    return await lived(ground, LIFE[:5])


async def waiting_for_data(ground):
    floor = {"name": "floor", "metric": "auc", "min": "0.52", "minEntities": 100_000}
    scene = await lived(ground, LIFE[:1], gate={"rules": [floor]})
    scene.world.months = ["2025-01", "2025-02"]
    await scene.ask("run@1")
    await scene.until(lambda scene: scene.generation(1).get("reason") == "TooFewEntities")
    return scene


async def without_a_deployment(ground):
    scene = await directed(ground)
    await scene.declare()
    uid = (await scene.deployment())["metadata"]["uid"]
    await scene.client.delete(DEPLOYMENT, scene.namespace, "ranker", uid=uid)
    await begun(scene)
    await scene.until(
        lambda scene: condition(scene.update_status, "Stalled").get("reason") == "TargetNotFound"
    )
    return scene


async def queued(ground):
    """A pod that no node has room for."""
    scene = await directed(ground, held=["import"])
    await scene.declare()
    await begun(scene)
    pod = await scene.pod(await scene.job("import"), "Pending", None, "")
    said = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    unschedulable = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    conditions = [{**unschedulable, "message": said}]
    await scene.status(POD, pod, {"phase": "Pending", "conditions": conditions})
    await scene.until(lambda scene: scene.update_status.get("phase") == "Queued")
    assert scene.update_status["progress"]["summary"] == "no node has a free nvidia.com/gpu"
    return scene


async def refused(ground):
    """A Job whose pods a quota refuses, reported again and again."""
    scene = await directed(ground, held=["import"])
    await scene.declare()
    await begun(scene)
    await say_refused(scene, await scene.job("import"), "exceeded quota: small")
    await scene.until(lambda scene: scene.update_status.get("phase") == "Queued", 30)
    return scene


async def suspended(ground):
    scene = await directed(ground, held=["import"])
    await scene.declare()
    await begun(scene)
    await scene.job("import")
    await scene.merge({"suspend": True})
    await scene.until(lambda scene: scene.update_status.get("phase") == "Suspended")
    return scene


async def in_conflict(ground):
    scene = await lived(ground, LIFE[:2])
    body = json.loads(ranker(scene, {"name": "MODEL_DIGEST", "value": "mine"}))
    await scene.client.apply(DEPLOYMENT, body, manager="another", force=True)
    await scene.until(
        lambda scene: (
            condition(scene.update_status, "TargetsInSync").get("reason") == "FieldConflict"
        )
    )
    return scene


async def with_a_failed_import(ground):
    scene = await directed(ground, held=["import"])
    await scene.declare(training={"limits": {"maxAttempts": 1}})
    await begun(scene)
    await scene.fail(await scene.job("import"), 3)
    await scene.until(
        lambda scene: condition(scene.update_status, "Stalled").get("reason") == "ImportFailed"
    )
    return scene


STATES = (
    idle,
    held,
    waiting_for_data,
    without_a_deployment,
    queued,
    refused,
    suspended,
    in_conflict,
    with_a_failed_import,
)


@pytest.mark.survives(
    "Operator",
    "updates that are idle, on hold, suspended, in conflict, blocked on a missing Deployment, "
    "or waiting for data, a GPU or a quota, side by side",
    "no write for 60 s except the Lease, however often they are reconciled",
)
async def test_at_rest_nothing_is_written(ground):
    scenes = await asyncio.gather(*(state(ground) for state in STATES))
    await asyncio.sleep(SETTLING_SECONDS)
    before = [len(scene.recorder.writes) for scene in scenes]
    known = [await versions(scene) for scene in scenes]
    await asyncio.sleep(REST_SECONDS)
    written = {
        state.__name__: scene.recorder.writes[known:]
        for state, scene, known in zip(STATES, scenes, before, strict=True)
    }
    assert written == {state.__name__: [] for state in STATES}
    assert [await versions(scene) for scene in scenes] == known


async def versions(scene):
    """Return what the API server knows of our objects: kopf writes past the recorder, if at all."""
    return {
        raw["metadata"]["name"]: raw["metadata"]["resourceVersion"]
        for kind in OWN
        for raw in (await scene.client.list_all(kind, scene.namespace)).items
    }


async def say_refused(scene, job, why, number=1):
    """What the Job controller says when it may not make a pod: the Job itself was accepted."""
    reference = {key: job["metadata"][key] for key in ("namespace", "name", "uid")}
    pod = f"{job['metadata']['name']}-{number:05d}"
    await scene.client.create(
        EVENT,
        {
            "metadata": {"namespace": scene.namespace, "name": f"{pod}.refused"},
            "involvedObject": {"apiVersion": "batch/v1", "kind": "Job", **reference},
            "reason": "FailedCreate",
            "message": f'Error creating: pods "{pod}" is forbidden: {why}',
            "type": "Warning",
            "lastTimestamp": f"2026-03-01T12:00:{number:02d}Z",
        },
    )


REFUSALS = {
    "quota exceeded": "exceeded quota: small, requested: requests.nvidia.com/gpu=1, limited: 0",
    "Pod Security refuses its pods": 'violates PodSecurity "restricted:latest": seccompProfile',
}
NAMED_WITHIN = 30


@pytest.mark.survives(
    "Jobs and pods",
    "a quota or Pod Security refuses the pods of a Job that itself was accepted",
    "reported in status within 30 s with the message of the refusal; few writes, however often "
    "it is refused; the run continues once pods are accepted",
)
async def test_refused_pods_are_reported_within_30_s_by_few_writes(ground):
    async def of(summary, why):
        scene = await directed(ground, held=["import"])
        await scene.declare()
        await begun(scene)
        job = await scene.job("import")
        known = len(scene.recorder.writes)
        for number in range(1, 16):
            await say_refused(scene, job, why, number)
            await asyncio.sleep(1)
        await scene.until(
            lambda scene: scene.update_status["progress"].get("summary") == summary,
            NAMED_WITHIN - 15,
        )
        assert why[:20] in scene.update_status["progress"]["waitingFor"]
        assert scene.update_status["phase"] == "Queued"
        await asyncio.sleep(5)
        assert len(scene.recorder.writes) - known <= 6
        assert len(scene.runs("import")) == 1
        await scene.release()
        await scene.until(lambda scene: scene.generation(0).get("verdict") == "Imported")

    await asyncio.gather(*(of(*each) for each in REFUSALS.items()))
