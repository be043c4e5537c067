"""The GPU seconds of a day are used up, with a real API server: the next Job waits.

An operator that ends before or after any write of it leaves the same record: no pod is counted
twice, no attempt either, and no Job is created meanwhile.
"""

from datetime import timedelta

import pytest
from faults.copying import Snapshot
from faults.crashing import crash_at_writes, crash_during
from faults.directing import directed
from faults.life import LIFE, play
from faults.playing import Recorder

pytestmark = pytest.mark.apiserver

SIDE_BY_SIDE = 12
SAMPLE = 7
"""Every so many of the crashes are tried in each run of the tests."""

LIMITED = {"limits": {"maxGpuSecondsPerDay": 3600}, "compute": {"gpusPerNode": 1}}


async def on_generation_one(ground, *hooks):
    """Generation 1 is live."""
    scene = await directed(ground)
    await scene.declare(training=LIMITED)
    await scene.start(*hooks)
    await play(scene, LIFE[:2])
    return scene


async def train(scene):
    """Let the pod of generation 2 have run for two hours; return its Job, and when it began."""
    scene.held.add("train")
    scene.world.months.append("2025-03")
    await scene.ask("run@2")
    job = await scene.job("train", since=2)
    began = scene.client.clock.now() - timedelta(hours=2)
    pod = await scene.pod(job, "Running", None, "", began=began.strftime("%Y-%m-%dT%H:%M:%SZ"))
    await scene.until(lambda scene: scene.generation(2)["training"].get("pods"))
    scene.running[job["metadata"]["uid"]] = pod
    return job, began.strftime("%Y-%m-%dT%H:%M:%SZ")


async def fail(scene, job, began):
    """End the attempt; wait until the next one waits for the budget."""
    await scene.fail(job, 137, began=began)
    await scene.until(lambda _: waits(scene))


def waits(scene):
    summary = scene.update_status["progress"].get("summary", "")
    return (
        summary.startswith("GPU budget until")
        and scene.generation(2)["training"]["failedAttempts"] == 1
    )


def all_seconds(scene):
    """GPU seconds of both generations: on a busy machine those of the first are above 0, too."""
    return sum(scene.generation(number)["gpuSeconds"] for number in (1, 2))


def problems(scene):
    """What is not as it must be while the next attempt waits."""
    status, second = scene.update_status, scene.generation(2)
    record = second["training"]
    used = second["gpuSeconds"]
    checks = {
        "ended": not record.get("pods") and [of["attempt"] for of in record["gpuRuns"]] == [1],
        "used": 7200 <= used < 7200 + 900,
        "counted once": status["counters"]["gpuSeconds"] == all_seconds(scene),
        "attempts": (record["attempt"], record["failedAttempts"]) == (2, 1),
        "pending": second["verdict"] == "Pending",
        "jobs": len(scene.runs("train")) == 2,
        "phase": status["phase"] == "Queued",
        "message": "at most 3,600 (training.limits.maxGpuSecondsPerDay)"
        in status["progress"]["waitingFor"],
    }
    return [name for name, holds in checks.items() if not holds]


async def test_the_next_attempt_waits_and_starts_once_the_limit_is_raised(ground):
    scene = await on_generation_one(ground)
    await fail(scene, *await train(scene))
    assert problems(scene) == []
    used = scene.generation(2)["gpuSeconds"]
    await scene.merge({"training": {"limits": {"maxGpuSecondsPerDay": 90_000}}})
    await scene.job("train", 2, since=2)
    await scene.until(lambda scene: scene.generation(2)["training"]["attempt"] == 2)
    record = scene.generation(2)["training"]
    assert (record["failedAttempts"], record["gpuSeconds"]) == (1, used)
    assert [each["gpuSeconds"] for each in record["gpuRuns"]] == [used]
    await scene.release()
    await scene.until(lambda scene: scene.update_status["live"]["number"] == 2)
    assert scene.update_status["counters"]["gpuSeconds"] == all_seconds(scene)


async def crash_at(ground, every):
    recorder = Recorder()
    scene = await on_generation_one(ground, recorder)
    snapshot = await Snapshot.of(scene)
    job, began = await train(scene)
    before = len(recorder.writes)
    await fail(scene, job, began)
    assert problems(scene) == []

    async def disturbed(crash):
        scene = await snapshot.restore()
        await scene.start()
        job, began = await train(scene)
        await crash_during(scene, crash, fail(scene, job, began))
        return problems(scene)

    numbers = range(1, len(recorder.writes) - before + 1)
    return await crash_at_writes(numbers, disturbed, every=every, side_by_side=SIDE_BY_SIDE)


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes while the next attempt waits for "
    "`maxGpuSecondsPerDay`; tested at some writes",
    "no pod and no attempt is counted twice, and no Job is created",
)
@pytest.mark.timeout(900)
async def test_a_crash_at_some_writes_of_the_wait_counts_nothing_twice(ground):
    assert await crash_at(ground, SAMPLE) == {}


@pytest.mark.faults
@pytest.mark.timeout(3600)
async def test_a_crash_at_every_write_of_the_wait_counts_nothing_twice(ground):
    assert await crash_at(ground, 1) == {}
