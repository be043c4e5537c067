"""A training on two nodes in a queue with a real API server: Kueue has the JobSet, as a whole.

Kueue and the controller of JobSets are small ones. An operator that ends before or after any write
leaves the same JobSet and the same attempt.
"""

import functools

import pytest
from cluster import job_sets, workloads
from faults.crashing import crash_at_writes_of
from faults.directing import directed
from faults.job_sets import RAN, JobSets
from faults.life import LIFE, play
from faults.queueing import PREEMPTED, QUEUE, Kueue, Witness

from springtide_operator.cluster.api.kinds import JOB, JOB_SET

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("soon")]

SIDE_BY_SIDE = 6
TOLERANCE = 900
"""Seconds that a life may take; what is lost with one pod is more."""


@pytest.fixture
def queueing(ground, kinds, begin):
    """The API server with JobSets and Workloads, and what begins their controllers."""
    job_sets.install(kinds)
    workloads.install(kinds)
    return ground, begin


async def on_generation_one(queueing, *hooks):
    """Generation 1 is live; the next training has two nodes, in a queue without quota."""
    ground, _ = queueing
    scene = await directed(ground)
    await scene.declare()
    await scene.start(*hooks)
    await play(scene, LIFE[:2])
    scene.held |= {"train", "evaluate"}
    scene.world.months.append("2025-03")
    compute = {"nodes": 2, "gpusPerNode": 1, "queueName": "gpus"}
    await scene.merge({"training": {"compute": compute}})
    attend(queueing, scene)
    return scene


def attend(queueing, scene):
    """Start both controllers in a scene."""
    _, begin = queueing
    scene.sets, scene.kueue = JobSets(scene), Kueue(scene, (JOB, JOB_SET))
    begin(scene.sets.run())
    begin(scene.kueue.run())


async def queued_held_preempted_and_promoted(scene):
    """Generation 2 waits, is suspended in the queue, runs, is preempted, and is promoted."""
    kueue, sets = scene.kueue, scene.sets
    await scene.ask("run@2")
    await scene.until(lambda _: kueue.reports("Pending in Kueue") and sets.ever)
    (job_set,) = sets.ever.values()
    await kueue.hold_and_release(job_set)
    kueue.admits = True
    job = await sets.run_pods(attempt=1, admission=1)
    uid = job["metadata"]["uid"]
    kueue.admits, kueue.preempts = False, True
    await scene.until(lambda _: kueue.reports("Preempted in Kueue"))
    await scene.until(lambda scene: scene.started[uid]["spec"].get("suspend"))
    kueue.admits, kueue.preempts = True, False
    job = await sets.run_pods(attempt=1, admission=2)
    await sets.succeed(job)
    await kueue.resumed("evaluate")
    await scene.release("evaluate")
    await scene.until(lambda scene: (scene.update_status.get("live") or {}).get("number") == 2)
    await scene.until(lambda scene: not scene.jobs())


def problems(scene):
    """What is not as it must be at the end."""
    second = scene.generation(2)
    training, evaluation = second["training"], second["evaluation"]
    (job_set,) = [raw["metadata"] for raw in scene.sets.ever.values()]
    (job,) = [raw["metadata"] for raw in scene.runs("train") if "-g2-" in raw["metadata"]["name"]]
    checks = {
        "attempts": (training["attempt"], evaluation["attempt"]) == (1, 1),
        "failures": (training["failedAttempts"], evaluation["failedAttempts"]) == (0, 0),
        "recorded": training["jobUid"] == job_set["uid"],
        "queue": (job_set["labels"].get(QUEUE), job["labels"].get(QUEUE)) == ("gpus", None),
        "annotations": "springtide.dev/suspended" not in job_set["annotations"],
        "time": abs(training["runningSeconds"] - RAN.seconds) < TOLERANCE,
        "gpus": abs(training["gpuSeconds"] - 4 * RAN.seconds) < TOLERANCE,
    }
    return [name for name, holds in checks.items() if not holds]


@pytest.mark.survives(
    "Queues",
    "a training on two nodes waits in a queue, is suspended with its update, runs, and is "
    "preempted, on the API server",
    "the operator writes `spec.active` of its Workload and never to the JobSet; the same JobSet "
    "goes on, and both pods of each admission count",
)
async def test_a_training_on_two_nodes_in_a_queue_is_held_preempted_and_promoted(queueing):
    scene = await on_generation_one(queueing)
    witness = Witness()
    scene.operators[-1].client.write_hooks.append(witness)
    await queued_held_preempted_and_promoted(scene)
    assert problems(scene) == []
    assert witness.jobs == []
    assert len(witness.workloads) == 2, "deactivated once, activated once"
    messages = await scene.events("SuspendedByKueue")
    assert any(PREEMPTED in message for message in messages)


@pytest.mark.survives(
    "Queues",
    "the operator is ended before or after one of its writes while a training on two nodes is "
    "queued, held, preempted and admitted again",
    "the same JobSet and the same attempt go on to the promotion; the time of each pod counts once",
)
@pytest.mark.faults
@pytest.mark.timeout(3600)
async def test_a_crash_at_every_write_of_a_queued_job_set_changes_nothing(queueing):
    wrong = await crash_at_writes_of(
        functools.partial(on_generation_one, queueing),
        queued_held_preempted_and_promoted,
        problems,
        every=1,
        side_by_side=SIDE_BY_SIDE,
        attend=functools.partial(attend, queueing),
    )
    assert wrong == {}
