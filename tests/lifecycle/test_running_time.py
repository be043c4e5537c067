"""What activeDeadline bounds: the running time of a stage's pods, and never what they waited."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.passing_time import passes
from lifecycle.world import World, with_generation_one

from springtide_operator.lifecycle.jobs.failures import MAX_BACK_OFF
from springtide_operator.lifecycle.jobs.running_time import MAX_PODS, close_attempt, measure
from springtide_operator.lifecycle.state.observed import ObservedPod

HOUR = timedelta(hours=1)
GPU = "no node has a free nvidia.com/gpu: 0/1 nodes are available"


def trains(deadline: str = "2h", gpus: int = 2) -> tuple[World, str]:
    """A world whose second generation trains, and the name of its Job."""
    world = with_generation_one()
    compute = {"gpusPerNode": gpus}
    world.edit(training={"compute": compute, "limits": {"activeDeadline": deadline}})
    world.months.append("2025-03")
    while not any("-g2-train-" in name for name in world.jobs):
        world.round()
    return world, train_job(world)


def train_job(world: World) -> str:
    (name,) = (name for name in world.jobs if "-g2-train-" in name)
    return name


def training(world: World):
    return world.generation(2).status.training


@pytest.mark.survives(
    "Jobs and pods",
    "a pod waits for a GPU for longer than `activeDeadline`",
    "it keeps waiting, then trains: only running time counts",
)
def test_waiting_for_a_gpu_is_not_running_time() -> None:
    world, name = trains()
    pod = ObservedPod("pod", "uid", world.now, waiting=GPU)
    world.jobs[name] = replace(world.jobs[name], pods=(pod,))
    passes(world, 50 * HOUR)
    assert world.generation(2).status.verdict == "Pending"
    world.rounds(8)
    assert world.generation(2).status.rollout.promoted_at


@pytest.mark.survives(
    "Jobs and pods",
    "the pods of a stage run for longer than `activeDeadline` in total",
    "the run is Failed with reason DeadlineExceeded, the Job is deleted, the served model stays",
)
def test_a_run_ends_once_its_pods_ran_for_the_active_deadline() -> None:
    world, name = trains()
    world.begin(name)
    plan = world.settle()
    assert plan.wake_after <= timedelta(minutes=1)
    passes(world, 2 * HOUR - timedelta(seconds=30))
    assert world.generation(2).status.verdict == "Pending"
    assert world.plan.wake_after == timedelta(seconds=30)
    passes(world, timedelta(seconds=30))
    status = world.generation(2).status
    assert (status.verdict, status.reason) == ("Failed", "DeadlineExceeded")
    assert "ran for 2h (training.limits.activeDeadline)" in status.message
    assert name not in world.jobs
    assert training(world).running_seconds == 7200
    assert world.update.status.live.number == 1


def test_running_time_adds_up_over_suspensions_and_attempts() -> None:
    world, name = trains()
    world.begin(name)
    world.settle()
    passes(world, HOUR)
    world.edit(suspend=True)
    world.settle()
    passes(world, 5 * HOUR)
    world.edit(suspend=False)
    world.settle()
    passes(world, 5 * HOUR)
    world.begin(name)
    world.settle()
    passes(world, HOUR / 2)
    world.fail(name, 137, disrupted=True)
    passes(world, MAX_BACK_OFF)
    assert (training(world).attempt, training(world).running_seconds) == (2, 5400)
    name = train_job(world)
    world.begin(name)
    world.settle()
    passes(world, HOUR / 2)
    assert world.generation(2).status.reason == "DeadlineExceeded"


def test_a_run_that_used_up_its_time_is_not_retried() -> None:
    world, name = trains()
    world.begin(name)
    world.settle()
    world.now += 3 * HOUR
    world.fail(name, 137)
    world.settle()
    status = world.generation(2).status
    assert (status.verdict, status.reason) == ("Failed", "DeadlineExceeded")
    assert "exit code 137" in status.message


def test_a_result_counts_although_the_time_was_used_up_when_it_came() -> None:
    world, name = trains()
    world.begin(name)
    world.settle()
    world.now += 3 * HOUR
    world.succeed(name, world._result(world.runs[name]))
    world.settle()
    assert world.generation(2).status.artifact


def test_gpu_seconds_are_those_of_every_pod_disrupted_ones_included() -> None:
    world, name = trains(deadline="24h", gpus=2)
    world.begin(name)
    world.settle()
    world.now += HOUR
    world.fail(name, 143, disrupted=True)
    passes(world, MAX_BACK_OFF)
    assert training(world).gpu_seconds == 2 * 3600
    name = train_job(world)
    world.begin(name)
    world.settle()
    world.now += HOUR
    world.succeed(name, world._result(world.runs[name]))
    world.settle()
    assert training(world).gpu_seconds == 4 * 3600
    (name,) = (name for name, job in world.jobs.items() if job.stage == "evaluate")
    world.begin(name)
    world.settle()
    world.now += HOUR
    world.rounds(4)
    assert world.update.status.counters.gpu_seconds == 5 * 3600 + 120


@pytest.mark.survives(
    "Jobs and pods",
    "a running pod is deleted before its end was seen",
    "its time counts up to the end of its Job",
)
def test_a_recorded_pod_that_is_gone_ran_until_its_job_ended() -> None:
    world, name = trains()
    world.begin(name)
    world.settle()
    world.now += HOUR
    gone = {"pods": (), "failed": True, "finished": world.now, "failure": "DisruptionTarget"}
    world.jobs[name] = replace(world.jobs[name], **gone)
    passes(world, HOUR)
    assert (training(world).attempt, training(world).running_seconds) == (2, 3600)


@pytest.mark.parametrize("ended", [False, True])
def test_a_pod_whose_suspension_nobody_saw_ran_at_most_until_its_job_was_resumed(
    ended: bool,
) -> None:
    """Not until now: an operator that was away would end a run that waited in a queue."""
    world, name = trains()
    world.begin(name)
    world.settle()
    world.now += HOUR / 2
    world.suspend_by_another(name)
    world.now += HOUR
    world.suspend_by_another(name, suspend=False)
    world.now += 50 * HOUR
    world.begin(name)
    if ended:
        world.fail(name, 137, disrupted=True)
    world.settle()
    assert world.generation(2).status.verdict == "Pending"
    assert close_attempt(training(world), world.now).running_seconds == 5400


def test_a_pod_is_recorded_once_when_it_starts_to_run() -> None:
    world, name = trains()
    world.begin(name)
    world.settle()
    began = world.now
    passes(world, HOUR)
    (pod,) = training(world).pods
    assert (pod.started_at, pod.ended_at, pod.gpus) == (began, None, 2)


def test_the_pods_of_a_job_that_is_suspended_repeatedly_are_summed_up() -> None:
    world, name = trains(deadline="48h")
    for _ in range(MAX_PODS + 3):
        world.begin(name)
        world.settle()
        passes(world, timedelta(minutes=10))
        world.edit(suspend=True)
        world.settle()
        world.edit(suspend=False)
        world.settle()
    assert len(training(world).pods) == MAX_PODS
    assert close_attempt(training(world), world.now).running_seconds == (MAX_PODS + 3) * 600


def test_a_pod_of_another_job_of_that_name_does_not_count() -> None:
    world, name = trains()
    world.begin(name)
    world.settle()
    passes(world, HOUR)
    other = replace(world.jobs[name], uid="another")
    measured = measure(training(world), other, world.now)
    assert [pod.ended_at for pod in measured.pods] == [world.now]


def test_an_orphaned_run_has_no_pod_without_an_end() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    while not any(job.stage == "train" for job in world.jobs.values()):
        world.round()
    (name,) = (name for name, job in world.jobs.items() if job.stage == "train")
    world.begin(name)
    world.settle()
    assert world.generation(2).status.training.pods
    world.recreate()
    world.settle()
    status = world.generation(2).status
    assert (status.reason, status.training.pods) == ("Orphaned", [])
