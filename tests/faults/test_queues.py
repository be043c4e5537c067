"""A training in a queue with a real API server: it waits, is held, preempted and admitted again.

An operator that ends before or after any write of it leaves the same Job and the same attempt, and
a Workload that is active exactly while the update is not suspended.
"""

import asyncio

import pytest
from cluster import workloads
from faults.crashing import crash_at_writes, crash_during
from faults.directing import directed
from faults.life import LIFE, play
from faults.playing import Recorder
from faults.queueing import PREEMPTED, Kueue, Witness

from springtide_operator.cluster.watching import optional_kind

pytestmark = pytest.mark.apiserver

SIDE_BY_SIDE = 12
SAMPLE = 17
"""Every so many of the crashes are tried in each run of the tests."""


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """The first update with a queue is noticed at once."""
    monkeypatch.setattr(optional_kind, "NEEDED_SECONDS", 0.1)


@pytest.fixture
async def queueing(ground, kinds):
    """The API server with Workloads; each Kueue ends with the test."""
    workloads.install(kinds)
    running = []
    yield ground, running
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def on_generation_one(queueing, *hooks):
    """Generation 1 is live; from the next one on Jobs are in a queue without quota."""
    ground, running = queueing
    scene = await directed(ground)
    await scene.declare()
    await scene.start(*hooks)
    await play(scene, LIFE[:2])
    scene.held |= {"train", "evaluate"}
    scene.world.months.append("2025-03")
    await scene.merge({"training": {"compute": {"queueName": "gpus"}}})
    scene.kueue = Kueue(scene)
    running.append(asyncio.create_task(scene.kueue.run()))
    return scene


def reports(scene, words):
    """Whether the column Progress begins with these words."""
    return scene.update_status["progress"].get("summary", "").startswith(words)


async def until_active(scene, job, *, active):
    """Wait until the Workload of a Job is active, or not, by the operator."""
    while True:
        held = await scene.kueue.workload(job)
        mark = (held["metadata"].get("annotations") or {}).get("springtide.dev/suspended")
        if held["spec"]["active"] is active and mark == (None if active else "true"):
            return
        await asyncio.sleep(0.05)


async def resumed(scene, stage):
    """Wait until Kueue has resumed the newest Job of a stage; return it."""
    job = await scene.job(stage, since=2)
    name = job["metadata"]["name"]

    def runs(scene):
        raw = scene.started[job["metadata"]["uid"]]
        return not raw["spec"].get("suspend")

    await scene.until(runs)
    assert name in scene.jobs()
    return scene.started[job["metadata"]["uid"]]


async def queued_held_preempted_and_promoted(scene):
    """Generation 2 waits, is suspended in the queue, runs, is preempted, and is promoted."""
    kueue = scene.kueue
    await scene.ask("run@2")
    job = await scene.job("train", since=2)
    await scene.until(lambda _: reports(scene, "Pending in Kueue"))
    await scene.merge({"suspend": True})
    await asyncio.wait_for(until_active(scene, job, active=False), 60)
    await scene.merge({"suspend": False})
    await asyncio.wait_for(until_active(scene, job, active=True), 60)
    kueue.admits = True
    job = await resumed(scene, "train")
    scene.running[job["metadata"]["uid"]] = await scene.pod(job, "Running", None, "")
    await scene.until(lambda scene: scene.generation(2)["training"].get("pods"))
    kueue.admits, kueue.preempts = False, True
    await scene.until(lambda _: reports(scene, "Preempted in Kueue"))
    kueue.admits, kueue.preempts = True, False
    await resumed(scene, "train")
    await scene.release("train")
    await resumed(scene, "evaluate")
    await scene.release()
    await scene.until(lambda scene: (scene.update_status.get("live") or {}).get("number") == 2)


def problems(scene):
    """What is not as it must be at the end."""
    second = scene.generation(2)
    training, evaluation = second["training"], second["evaluation"]
    of_two = [raw for raw in scene.started.values() if "-g2-" in raw["metadata"]["name"]]
    checks = {
        "attempts": (training["attempt"], evaluation["attempt"]) == (1, 1),
        "failures": (training["failedAttempts"], evaluation["failedAttempts"]) == (0, 0),
        "jobs": len(of_two) == 2,
        "queue": all(
            raw["metadata"]["labels"].get("kueue.x-k8s.io/queue-name") == "gpus" for raw in of_two
        ),
        "annotations": not [
            raw for raw in of_two if "springtide.dev/suspended" in raw["metadata"]["annotations"]
        ],
    }
    return [name for name, holds in checks.items() if not holds]


@pytest.mark.survives(
    "Queues",
    "a training waits in a queue, is suspended with its update, runs, and is preempted, on the API "
    "server",
    "the operator writes `spec.active` of its Workload and never to the Job; the same Job goes on",
)
async def test_a_training_in_a_queue_is_held_preempted_and_promoted(queueing):
    scene = await on_generation_one(queueing)
    witness = Witness()
    scene.operators[-1].client.write_hooks.append(witness)
    await queued_held_preempted_and_promoted(scene)
    assert problems(scene) == []
    assert witness.jobs == []
    assert len(witness.workloads) == 2, "deactivated once, activated once"
    (event,) = await scene.events("SuspendedByKueue")
    assert PREEMPTED in event


async def crash_at(queueing, every):
    recorder = Recorder()
    scene = await on_generation_one(queueing, recorder)
    before = len(recorder.writes)
    await queued_held_preempted_and_promoted(scene)
    assert problems(scene) == []

    async def disturbed(crash):
        scene = await on_generation_one(queueing)
        await crash_during(scene, crash, queued_held_preempted_and_promoted(scene))
        return problems(scene)

    numbers = range(1, len(recorder.writes) - before + 1)
    return await crash_at_writes(numbers, disturbed, every=every, side_by_side=SIDE_BY_SIDE)


@pytest.mark.survives(
    "Queues",
    "the operator is ended before or after one of its writes while a training is queued, held, "
    "preempted and admitted again; tested at some writes",
    "the same Job and the same attempt go on to the promotion",
)
@pytest.mark.timeout(900)
async def test_a_crash_at_some_writes_of_a_queued_training_changes_nothing(queueing):
    assert await crash_at(queueing, SAMPLE) == {}


@pytest.mark.faults
@pytest.mark.timeout(3600)
async def test_a_crash_at_every_write_of_a_queued_training_changes_nothing(queueing):
    assert await crash_at(queueing, 1) == {}
