"""A training in a queue with a real API server: it waits, is held, preempted and admitted again.

An operator that ends before or after any write of it leaves the same Job and the same attempt, and
a Workload that is active exactly while the update is not suspended.
"""

import functools

import pytest
from cluster import workloads
from faults.crashing import crash_at_writes_of
from faults.directing import directed
from faults.life import LIFE, play
from faults.queueing import PREEMPTED, Kueue, Witness

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("soon")]

SIDE_BY_SIDE = 12
SAMPLE = 17
"""Every so many of the crashes are tried in each run of the tests."""


@pytest.fixture
def queueing(ground, kinds, begin):
    """The API server with Workloads, and what begins a Kueue."""
    workloads.install(kinds)
    return ground, begin


async def on_generation_one(queueing, *hooks):
    """Generation 1 is live; from the next one on Jobs are in a queue without quota."""
    ground, _ = queueing
    scene = await directed(ground)
    await scene.declare()
    await scene.start(*hooks)
    await play(scene, LIFE[:2])
    scene.held |= {"train", "evaluate"}
    scene.world.months.append("2025-03")
    await scene.merge({"training": {"compute": {"queueName": "gpus"}}})
    attend(queueing, scene)
    return scene


def attend(queueing, scene):
    """Start a Kueue in a scene."""
    _, begin = queueing
    scene.kueue = Kueue(scene)
    begin(scene.kueue.run())


async def queued_held_preempted_and_promoted(scene):
    """Generation 2 waits, is suspended in the queue, runs, is preempted, and is promoted."""
    kueue = scene.kueue
    await scene.ask("run@2")
    job = await scene.job("train", since=2)
    await scene.until(lambda _: kueue.reports("Pending in Kueue"))
    await kueue.hold_and_release(job)
    kueue.admits = True
    job = await kueue.resumed("train")
    scene.running[job["metadata"]["uid"]] = await scene.pod(job, "Running", None, "")
    await scene.until(lambda scene: scene.generation(2)["training"].get("pods"))
    kueue.admits, kueue.preempts = False, True
    await scene.until(lambda _: kueue.reports("Preempted in Kueue"))
    kueue.admits, kueue.preempts = True, False
    await kueue.resumed("train")
    await scene.release("train")
    await kueue.resumed("evaluate")
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
    return await crash_at_writes_of(
        functools.partial(on_generation_one, queueing),
        queued_held_preempted_and_promoted,
        problems,
        every=every,
        side_by_side=SIDE_BY_SIDE,
        attend=functools.partial(attend, queueing),
    )


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
