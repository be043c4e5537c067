"""What others own of a target: replicas, image, pauses, and another update's claim."""

import asyncio

import pytest
from faults.directing import condition, directed
from faults.owner import applies, remember_revision, run, serving
from faults.playing import Recorder
from lifecycle.declared import SPEC

from springtide_operator.cluster.api.kinds import DEPLOYMENT, POD, UPDATE

pytestmark = pytest.mark.apiserver


def in_sync(scene):
    return condition(scene.update_status, "TargetsInSync").get("status") == "True"


@pytest.mark.survives(
    "Deployments",
    "an autoscaler scales the Deployment, at rest and during a rollout",
    "replicas are never ours: no write at rest, and the rollout waits for the new number of pods",
)
async def test_replicas_are_never_ours(ground, kinds):
    recorder = Recorder()
    scene = await serving(ground, recorder)
    place = ("-n", scene.namespace)
    known = len(applies(recorder))
    await run(kinds, "scale", "deployment/ranker", "--replicas=5", *place)
    await scene.until(lambda scene: scene.update_status["targets"][0]["desired"] == 5)
    assert in_sync(scene)
    assert len(applies(recorder)) == known
    scene.pods_ready = False
    scene.world.months.append("2025-03")
    await scene.ask("run@2")
    await scene.until(lambda scene: len(scene.templates) == 2)
    await run(kinds, "scale", "deployment/ranker", "--replicas=3", *place)
    await scene.make_ready()
    await scene.until(lambda scene: (scene.update_status.get("live") or {}).get("number") == 2)
    deployment = await scene.deployment()
    assert deployment["spec"]["replicas"] == 3
    (ours,) = [
        each
        for each in deployment["metadata"]["managedFields"]
        if each["manager"] == "springtide:shop"
    ]
    assert "f:replicas" not in ours["fieldsV1"]["f:spec"]
    assert len(applies(recorder)) == known + 1


@pytest.mark.survives(
    "Deployments",
    "the Deployment is paused, or scaled to 0, when a rollout is due",
    "`TargetPaused` or `TargetScaledToZero` says what to do, the deadline does not run; the "
    "rollout continues by itself",
)
async def test_a_rollout_waits_for_a_paused_deployment_and_its_deadline_does_not_run(ground, kinds):
    async def held(stop, go_on, reason):
        scene = await serving(ground)
        place = ("deployment/ranker", "-n", scene.namespace)
        await run(kinds, *stop, *place)
        scene.world.months.append("2025-03")
        await scene.ask("run@2")
        await scene.until(
            lambda scene: condition(scene.update_status, "Stalled").get("reason") == reason, 90
        )
        rollout = scene.generation(2)["rollout"]
        assert "promotedAt" not in rollout
        await asyncio.sleep(4)
        await run(kinds, *go_on, *place)
        await scene.until(
            lambda scene: (scene.update_status.get("live") or {}).get("number") == 2, 90
        )
        assert scene.generation(2)["rollout"]["deadline"] > rollout["deadline"]
        await scene.until(lambda scene: not condition(scene.update_status, "Stalled"))

    await asyncio.gather(
        held(["rollout", "pause"], ["rollout", "resume"], "TargetPaused"),
        held(["scale", "--replicas=0"], ["scale", "--replicas=2"], "TargetScaledToZero"),
    )


@pytest.mark.survives(
    "Deployments",
    "two updates name one Deployment and are created at the same moment",
    "one claims it; the other has `TargetClaimed`, names the first, and writes nothing to it",
)
async def test_a_deployment_has_one_update(ground):
    scene = await directed(ground)
    await scene.declare()
    written = await scene.update()
    metadata = {"namespace": scene.namespace, "name": "rival"}
    body = {"apiVersion": written["apiVersion"], "kind": written["kind"], "spec": written["spec"]}
    await scene.client.create(UPDATE, {**body, "metadata": metadata})
    await scene.start()

    def stalled():
        held = [scene.ground.cache.get(UPDATE, scene.namespace, name) for name in ("shop", "rival")]
        statuses = [(raw or {}).get("status") or {} for raw in held]
        return [condition(each, "Stalled") for each in statuses]

    await scene.until(
        lambda _: (
            sorted(bool(each) for each in stalled()) == [False, True]
            and all(scene.update_status.get("phase") for _ in stalled())
        ),
        90,
    )
    await asyncio.sleep(3)
    (refused,) = filter(None, stalled())
    assert refused["reason"] == "TargetClaimed"
    owner = (await scene.deployment())["metadata"]["labels"]["springtide.dev/update"]
    assert f"is served by IncrementalUpdate {owner}" in refused["message"]
    managers = {each["manager"] for each in (await scene.deployment())["metadata"]["managedFields"]}
    rivals = {"springtide:shop", "springtide:rival"} - {f"springtide:{owner}"}
    assert not managers & rivals


@pytest.mark.survives(
    "Deployments",
    "new pods crash with a message of 4,000 characters",
    "the start of the message is in status, with the exit code; the rollout is rolled back at "
    "its deadline",
)
async def test_the_message_of_a_crashing_pod_is_reported_within_the_limits_of_a_status(ground):
    scene = await serving(ground, rollout={**SPEC["rollout"], "deadline": "20s"})
    scene.pods_ready = False
    scene.world.months.append("2025-03")
    await scene.ask("run@2")
    await scene.until(lambda scene: len(scene.templates) == 2)
    newest = await remember_revision(scene, 2)
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": newest["metadata"]["name"]}
    container = {"name": "server", "image": "server"}
    pod = await scene.client.create(
        POD,
        {
            "metadata": {
                "namespace": scene.namespace,
                "name": "ranker-2-x",
                "labels": {"app": "ranker"},
                "ownerReferences": [{**owner, "uid": newest["metadata"]["uid"]}],
            },
            "spec": {"serviceAccountName": "default", "containers": [container]},
        },
    )
    ended = {"exitCode": 1, "message": "Traceback\n" + 4000 * "m"}
    crashed = {"ready": False, "restartCount": 3, "state": {"running": {}}, "imageID": ""}
    statuses = [{**container, **crashed, "lastState": {"terminated": ended}}]
    await scene.status(POD, pod, {"phase": "Running", "containerStatuses": statuses})
    deployment = await scene.deployment()
    counted = {"replicas": 3, "updatedReplicas": 1, "readyReplicas": 2, "availableReplicas": 2}
    status = {"observedGeneration": deployment["metadata"]["generation"], **counted}
    await scene.status(DEPLOYMENT, deployment, {**status, "unavailableReplicas": 1})
    await scene.until(
        lambda scene: "ended with code 1" in scene.update_status["targets"][0]["message"], 30
    )
    await scene.until(lambda scene: scene.generation(2)["rollout"].get("rollbackReason"))
    assert "ended with code 1" in scene.generation(2)["rollout"]["rollbackReason"]
    await scene.until(lambda scene: len(scene.templates) == 3)
