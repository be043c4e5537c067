"""Jobs that end badly, and what an attempt costs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.world import World, with_generation_one

from springtide_operator.lifecycle.jobs.failures import MAX_BACK_OFF


def test_a_disrupted_pod_means_a_new_attempt_that_is_not_counted() -> None:
    world = World()
    world.settle()
    for _ in range(5):
        job = next(iter(world.jobs))
        world.fail(job, 137, disrupted=True)
        world.settle()
        world.now += MAX_BACK_OFF
        world.settle()
    training = world.generation(0).status.training
    assert (training.attempt, training.failed_attempts) == (6, 0)


def test_repeated_disruptions_are_retried_with_a_growing_back_off() -> None:
    world = World()
    world.settle()
    pauses = []
    for _ in range(8):
        (job,) = world.jobs
        world.fail(job, 137, disrupted=True)
        started = world.now
        while job in world.jobs:
            plan = world.settle()
            if job in world.jobs:
                world.now += plan.wake_after
        pauses.append(int((world.now - started).total_seconds()))
    assert pauses == [0, 10, 20, 40, 80, 160, 300, 300]


def test_a_pod_evicted_for_its_own_limit_counts_and_names_the_limit() -> None:
    world = World()
    world.settle()
    (job,) = world.jobs
    world.fail(job, 137)
    said = {"reason": "Evicted", "ended_for": "ephemeral storage exceeds 1Gi"}
    pod = replace(world.jobs[job].pods[0], **said)
    world.jobs[job] = replace(world.jobs[job], pods=(pod,))
    world.settle()
    world.now += MAX_BACK_OFF
    world.settle()
    training = world.generation(0).status.training
    assert (training.attempt, training.failed_attempts) == (2, 1)
    assert "for exceeding its own limit: ephemeral storage exceeds 1Gi" in training.last_failure


@pytest.mark.survives(
    "Jobs and pods",
    "a service mesh adds a proxy to a pod, the trainer fails, and the proxy runs on",
    "the attempt has failed 20 s after the end of the trainer's container, and its Job is deleted",
)
def test_an_attempt_has_failed_although_a_container_of_others_runs_on() -> None:
    world = World()
    world.settle()
    (name,) = world.jobs
    world.begin(name)
    began = world.jobs[name].pods[0]
    world.now += timedelta(minutes=5)
    ended = replace(began, exit_code=1, ended=world.now)
    world.jobs[name] = replace(world.jobs[name], pods=(ended,))
    world.settle()
    assert list(world.jobs) == [name], "its phase may follow"
    world.now += timedelta(seconds=20)
    world.settle()
    assert name not in world.jobs
    training = world.generation(0).status.training
    assert (training.attempt, training.failed_attempts) == (2, 1)
    assert "ended with exit code 1" in training.last_failure
    assert training.running_seconds == 300


@pytest.mark.parametrize("code", [3, 137, None])
def test_the_reason_of_a_pod_takes_precedence_over_its_exit_code(code: int | None) -> None:
    world = World()
    world.settle()
    (job,) = world.jobs
    world.fail(job, 3)
    said = {"reason": "DeadlineExceeded", "ended_for": "Pod was active longer than its deadline"}
    pod = replace(world.jobs[job].pods[0], exit_code=code, **said)
    world.jobs[job] = replace(world.jobs[job], pods=(pod,))
    world.settle()
    world.now += MAX_BACK_OFF
    world.settle()
    training = world.generation(0).status.training
    assert (training.attempt, training.failed_attempts) == (2, 1)
    assert "reason DeadlineExceeded: Pod was active longer" in training.last_failure


def test_an_evicted_pod_that_is_gone_is_known_from_its_job() -> None:
    world = World()
    world.settle()
    name = next(iter(world.jobs))
    world.fail(name, 143)
    said = (
        f"PodFailurePolicy: Pod search/{name}-x has condition DisruptionTarget matching FailJob "
        "rule at index 0"
    )
    world.jobs[name] = replace(world.jobs[name], pods=(), failure=said)
    world.settle()
    training = world.generation(0).status.training
    assert (training.attempt, training.failed_attempts) == (2, 0)
    assert training.last_failure.endswith("was disrupted (evicted or preempted)")


@pytest.mark.survives(
    "Jobs and pods",
    "memory runs out at every attempt",
    "the batch is halved each time until the attempts are used up, then Failed",
)
def test_out_of_memory_halves_the_batch_until_the_attempts_are_used() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.round()
    job = next(name for name in world.jobs if "-g2-train-" in name)
    world.fail(job, 42)
    world.settle()
    world.now += timedelta(minutes=1)
    world.settle()
    training = world.generation(2).status.training
    assert training.batch_divisor == 2
    assert "raise training.compute.resources.memory" in training.last_failure
    assert world.runs[training.job].run.train.batch_divisor == 2


@pytest.mark.survives(
    "Jobs and pods",
    "an evaluation runs out of memory",
    "repeated with half the rows of a forward pass until the attempts are used up, then Failed",
)
def test_an_evaluation_out_of_memory_is_repeated_with_half_the_rows_of_a_pass() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    while not any("-g2-evaluate-" in name for name in world.jobs):
        world.round()
    for divisor in (2, 4):
        job = world.generation(2).status.evaluation.job
        world.fail(job, 42)
        world.settle()
        world.now += MAX_BACK_OFF
        world.settle()
        evaluation = world.generation(2).status.evaluation
        assert evaluation.batch_divisor == divisor
        assert world.runs[evaluation.job].run.evaluate.batch_divisor == divisor
        assert "raise training.compute.resources.memory" in evaluation.last_failure
        assert "batchSize" not in evaluation.last_failure, "it changes no pass of an evaluation"
    world.rounds()
    assert world.generation(2).status.verdict == "Accepted"


def test_an_import_out_of_memory_fails_at_once_and_names_its_own_field() -> None:
    world = World()
    world.settle()
    world.fail(next(name for name in world.jobs if "-g0-import-" in name), 42)
    world.settle()
    status = world.generation(0).status
    assert (status.verdict, status.reason) == ("Failed", "OutOfMemory")
    assert "raise training.compute.importMemory" in status.message
    assert status.training.batch_divisor == 1

    world.edit(training={"compute": {"importMemory": "8Gi"}})
    world.ask("retry@1")
    world.settle()
    again = next(world.runs[name] for name in world.jobs if "-g1-import-" in name)
    assert again.run.recipe.training.compute.import_memory == "8Gi"


def test_invalid_input_fails_at_once_and_is_not_retried() -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    world.round()
    job = next(name for name in world.jobs if "-g2-train-" in name)
    world.fail(job, 3, reason="MissingColumn")
    world.rounds(5)
    assert world.generation(2).status.verdict == "Failed"
    assert world.generation(2).status.reason == "MissingColumn"
    assert "shop-g3" not in world.generations
    assert world.update.status.live.name == "shop-g1"


def test_a_job_deleted_by_a_user_is_created_again_as_the_next_attempt() -> None:
    world = World()
    world.settle()
    world.jobs.clear()
    world.settle()
    assert world.generation(0).status.training.attempt == 2
    assert world.generation(0).status.training.failed_attempts == 1


@pytest.mark.survives(
    "People",
    "`spec.suspend` set while a Job runs",
    "the Job is suspended and continues as the same attempt",
)
def test_suspend_suspends_the_job_and_resumes_it() -> None:
    world = World()
    world.settle()
    world.edit(suspend=True)
    world.settle()
    assert all(job.suspended for job in world.jobs.values())
    assert world.update.status.phase == "Suspended"
    world.edit(suspend=False)
    world.settle()
    assert not any(job.suspended for job in world.jobs.values())


@pytest.mark.survives(
    "Jobs and pods",
    "another controller, such as Kueue, suspends a Job",
    "never resumed by the operator, not even after `spec.suspend` was set and removed; status "
    "reports it, and the time counts for `pendingTimeout`",
)
def test_a_job_that_another_controller_suspended_is_not_resumed() -> None:
    world = World()
    world.edit(training={"compute": {"pendingTimeout": "10m"}})
    world.settle()
    (name,) = world.jobs
    world.suspend_by_another(name)
    world.settle()
    assert world.jobs[name].suspended
    assert "suspended by another client" in world.update.status.progress.waiting_for
    world.edit(suspend=True)
    world.settle()
    world.edit(suspend=False)
    world.settle()
    assert world.jobs[name].suspended
    world.now += timedelta(minutes=10)
    world.settle()
    assert world.generation(0).status.reason == "PendingTimeout"
