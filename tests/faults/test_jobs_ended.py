"""Jobs that fail: which are repeated, which are not; serving is not affected."""

import asyncio
import json
from datetime import timedelta

import pytest
from faults.directing import directed
from faults.life import LIFE, play

from springtide_operator.cluster.api.kinds import JOB

pytestmark = pytest.mark.apiserver

ATTEMPTS = {"limits": {"maxAttempts": 2}}


async def training(ground, **changes):
    """A scene with a live generation 1 in which generation 2 trains."""
    scene = await directed(ground)
    await scene.declare(**changes)
    await scene.start()
    await play(scene, LIFE[:2])
    scene.held.add("train")
    scene.world.months.append("2025-03")
    await scene.ask("run@2")
    return scene, await scene.job("train", since=2)


def verdict(scene, number=2):
    return scene.generation(number).get("verdict")


async def recorded(scene, attempt):
    """The status of training once it speaks of this attempt."""
    await scene.until(lambda scene: scene.generation(2)["training"]["attempt"] == attempt)
    return scene.generation(2)["training"]


async def untouched(scene):
    """Whether what is served is what was served before."""
    live = scene.generation(1)["artifact"]["servedDigest"]
    assert scene.templates == [live]
    assert scene.update_status["live"]["number"] == 1


@pytest.mark.survives(
    "Jobs and pods",
    "a pod is evicted or preempted (`DisruptionTarget`), more often than attempts are allowed",
    "a new attempt each time under another name, none counted; the run succeeds",
)
async def test_disrupted_pods_cost_no_attempt(ground):
    scene, job = await training(ground, training=ATTEMPTS)
    names = []
    for attempt in (1, 2, 3):
        names.append(job["metadata"]["name"])
        await scene.fail(job, 143, disrupted=True)
        job = await scene.job("train", attempt + 1, since=2)
    assert len({*names, job["metadata"]["name"]}) == 4
    record = await recorded(scene, 4)
    assert record["failedAttempts"] == 0
    assert "disrupted" in record["lastFailure"]
    assert len(await scene.events("Disrupted")) == 3
    await scene.release()
    await scene.until(lambda scene: scene.update_status["live"]["number"] == 2)


@pytest.mark.survives(
    "Jobs and pods",
    "a pod runs for longer than `activeDeadline`, after it had waited for longer than that",
    "the run is Failed with reason DeadlineExceeded, its Job is deleted; serving is not affected",
)
async def test_a_run_whose_pod_exceeds_the_deadline_fails(ground):
    limits = {"limits": {"activeDeadline": "1h"}, "compute": {"gpusPerNode": 1}}
    scene, job = await training(ground, training=limits)
    now = scene.client.clock.now()
    began = (now - timedelta(minutes=50)).strftime("%Y-%m-%dT%H:%M:%SZ")
    pod = await scene.pod(job, "Running", None, "", began=began)
    await scene.until(lambda scene: scene.generation(2)["training"].get("pods"))
    (record,) = scene.generation(2)["training"]["pods"]
    assert (record["uid"], record["startedAt"]) == (pod["metadata"]["uid"], began)
    assert record["gpus"] == 1
    assert verdict(scene) == "Pending"
    scene.running[job["metadata"]["uid"]] = pod
    began = (now - timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    await scene.pod(job, "Running", None, "", began=began)
    await scene.until(lambda scene: verdict(scene) == "Failed")
    assert scene.generation(2)["reason"] == "DeadlineExceeded"
    assert scene.generation(2)["training"]["gpuSeconds"] >= 7200
    await scene.until(lambda scene: not scene.jobs())
    await untouched(scene)


@pytest.mark.survives(
    "Jobs and pods",
    "another controller suspends a Job, before, while and after `spec.suspend` is set",
    "it stays suspended until that controller resumes it; the operator resumes what it "
    "suspended itself",
)
async def test_only_a_job_that_the_operator_suspended_is_resumed(ground):
    scene, job = await training(ground)
    name = job["metadata"]["name"]

    async def live():
        return await scene.client.get(JOB, scene.namespace, name)

    async def set_by_another(suspend):
        operation = [{"op": "add", "path": "/spec/suspend", "value": suspend}]
        await scene.client.patch(JOB, scene.namespace, name, operation, manager="kueue")

    await set_by_another(True)
    waiting = "suspended by another client"
    await scene.until(
        lambda scene: waiting in (scene.update_status["progress"].get("waitingFor") or "")
    )
    await scene.merge({"suspend": True})
    await scene.until(lambda scene: scene.update_status["phase"] == "Suspended")
    await scene.merge({"suspend": False})
    await scene.until(
        lambda scene: waiting in (scene.update_status["progress"].get("waitingFor") or "")
    )
    assert (await live())["spec"]["suspend"]
    await set_by_another(False)
    await scene.until(
        lambda scene: waiting not in scene.update_status["progress"].get("waitingFor", "")
    )

    def suspended(scene):
        held = scene.ground.cache.get(JOB, scene.namespace, name)
        return held["spec"].get("suspend", False)

    await scene.merge({"suspend": True})
    await scene.until(suspended)
    assert (await live())["metadata"]["annotations"]["springtide.dev/suspended"] == "true"
    await scene.merge({"suspend": False})
    await scene.until(lambda scene: not suspended(scene))
    assert "springtide.dev/suspended" not in (await live())["metadata"]["annotations"]


FINAL = {3: "MissingColumn", 4: "TooLittleData", 5: "Diverged"}


@pytest.mark.survives(
    "Jobs and pods",
    "the trainer ends with code 3, 4 or 5: invalid input, too little data, diverged",
    "Failed at once with the trainer's reason and message in status; serving is not affected",
)
async def test_a_permanent_failure_is_not_repeated(ground):
    async def ends(code):
        scene, job = await training(ground)
        name = job["metadata"]["name"]
        failure = {"reason": FINAL[code], "message": f"what is wrong with code {code}"}
        said = {"job": name, "stage": "train", "number": 2, "ok": False, "failure": failure}
        await scene.fail(job, code, json.dumps(said))
        await scene.until(lambda scene: verdict(scene) == "Failed")
        await scene.until(lambda scene: scene.update_status["lastRun"]["verdict"] == "Failed")
        assert scene.update_status["lastRun"]["reason"] == FINAL[code]
        assert failure["message"] in scene.update_status["lastRun"]["message"]
        assert len(scene.runs("train")) == 2
        await untouched(scene)

    await asyncio.gather(*map(ends, FINAL))


@pytest.mark.survives(
    "Jobs and pods",
    "the trainer ends with code 1 each time",
    "repeated after a pause up to `maxAttempts`, then Failed with the code and the count",
)
@pytest.mark.survives(
    "Jobs and pods",
    "the kernel ends the trainer for its memory, or the trainer reports it (42)",
    "repeated with half the batch; where `onOutOfMemory` is Fail, failed at once",
)
@pytest.mark.survives(
    "Jobs and pods",
    "a Job is ended by a deadline that another client set on it, and its pod is gone",
    "counted as a failed attempt with the Job's own reason, and repeated",
)
async def test_a_retryable_failure_is_repeated_up_to_the_limit(ground):
    async def crashes():
        scene, job = await training(ground, training=ATTEMPTS)
        await scene.fail(job, 1)
        job = await scene.job("train", 2, since=2)
        await scene.fail(job, 1)
        await scene.until(lambda scene: verdict(scene) == "Failed")
        generation = scene.generation(2)
        assert generation["reason"] == "ExitCode1"
        assert "exit code 1" in generation["message"]
        assert "2 of 2 attempts" in generation["message"]
        await untouched(scene)

    async def runs_out_of_memory(code, reason):
        scene, job = await training(ground, training=ATTEMPTS)
        await scene.fail(job, code, reason=reason)
        job = await scene.job("train", 2, since=2)
        run = json.loads(job["spec"]["template"]["metadata"]["annotations"]["springtide.dev/run"])
        assert run["train"]["batchDivisor"] == 2
        (adjusted,) = (await recorded(scene, 2))["adjustments"]
        assert "1/2 of batchSize" in adjusted
        await untouched(scene)
        await scene.release()
        await scene.until(lambda scene: scene.update_status["live"]["number"] == 2)

    async def may_not_halve():
        limits = {"maxAttempts": 2, "onOutOfMemory": "Fail"}
        scene, job = await training(ground, training={"limits": limits})
        await scene.fail(job, 137, reason="OOMKilled")
        await scene.until(lambda scene: verdict(scene) == "Failed")
        assert scene.generation(2)["reason"] == "OutOfMemory"
        assert "onOutOfMemory" in scene.generation(2)["message"]
        assert len(scene.runs("train")) == 2
        await untouched(scene)

    async def takes_too_long():
        scene, job = await training(ground, training=ATTEMPTS)
        await scene.finish(job, "FailureTarget", "Failed", reason="DeadlineExceeded")
        await scene.job("train", 2, since=2)
        record = await recorded(scene, 2)
        assert "DeadlineExceeded" in record["lastFailure"]
        assert record["failedAttempts"] == 1
        await untouched(scene)

    await asyncio.gather(
        crashes(),
        takes_too_long(),
        runs_out_of_memory(137, "OOMKilled"),
        runs_out_of_memory(42, "Error"),
        may_not_halve(),
    )


@pytest.mark.survives(
    "Jobs and pods",
    "another client deletes the Job of an import, a training or an evaluation while it runs",
    "created again as the next attempt, counted; never treated as a success",
)
async def test_a_job_deleted_by_another_client_is_created_again_as_the_next_attempt(ground, kinds):
    async def deleted(stage, number):
        scene = await directed(ground, held=[stage])
        scene.world.months = ["2025-01", "2025-02"]
        await scene.declare()
        await scene.start()
        if stage != "import":
            await scene.until(lambda scene: verdict(scene, 0) == "Imported")
            await scene.until(lambda scene: scene.update_status.get("observedGeneration"))
            await scene.ask("run@1")
        record = {"import": "training", "train": "training", "evaluate": "evaluation"}[stage]
        await scene.until(lambda scene: (scene.generation(number).get(record) or {}).get("jobUid"))
        (job,) = scene.runs(stage)
        place = ("-n", scene.namespace, "--wait=false")
        await asyncio.to_thread(kinds.kubectl, "delete", "job", job["metadata"]["name"], *place)
        again = await scene.job(stage, 2)
        assert again["metadata"]["name"] == job["metadata"]["name"][:-1] + "2"
        await scene.until(lambda scene: scene.generation(number)[record]["attempt"] == 2)
        assert scene.generation(number)[record]["failedAttempts"] == 1
        assert "was deleted by another client" in scene.generation(number)[record]["lastFailure"]
        assert scene.generation(number).get("verdict") == "Pending"
        await scene.release()
        done = {"import": "Imported"}.get(stage, "Accepted")
        await scene.until(lambda scene: verdict(scene, number) == done)
        assert len(scene.runs(stage)) == 2

    await asyncio.gather(deleted("import", 0), deleted("train", 1), deleted("evaluate", 1))
