"""training.limits.maxGpuSecondsPerDay: what begins waits for the budget, what runs goes on."""

from __future__ import annotations

from datetime import timedelta

import pytest
from lifecycle.invariants import Invariants
from lifecycle.passing_time import runs
from lifecycle.world import MONTHS, World, with_generation_one

from springtide_api.contract import ExitCode
from springtide_operator.lifecycle.jobs.failures import MAX_BACK_OFF

HOUR, MINUTE, SECOND = timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1)
DAY = timedelta(days=1)


def limited(most: int | None = 3600, gpus: int = 1, **training: object) -> World:
    """A world with generation 1, whose pods may use so many GPU seconds within 24 hours."""
    world = with_generation_one()
    Invariants(world)
    limit(world, most, gpus, **training)
    return world


def limit(world: World, most: int | None, gpus: int = 1, **training: object) -> None:
    limits = {"activeDeadline": "100h"} | ({"maxGpuSecondsPerDay": most} if most else {})
    world.edit(training={"compute": {"gpusPerNode": gpus}, "limits": limits, **training})
    world.settle()


def job_of(world: World, stage: str, number: int) -> str:
    """Let Jobs that have no GPU end until the Job of a stage is there; return its name."""
    for _ in range(10):
        found = [n for n, job in world.jobs.items() if (job.stage, job.number) == (stage, number)]
        if found:
            return found[-1]
        world.now += MINUTE
        for name, job in list(world.jobs.items()):
            if job.stage in {"probe", "collect"}:
                world.succeed(name, world._result(world.runs[name]))
        world.settle()
    raise AssertionError(f"no Job of stage {stage} for generation {number}")


def jobs(world: World, stage: str) -> list[str]:
    return [name for name, job in world.jobs.items() if job.stage == stage]


def succeeds(world: World, name: str, after: timedelta) -> None:
    runs(world, name, after)
    world.succeed(name, world._result(world.runs[name]))
    world.settle()


def trained(world: World, time: timedelta, month: str = "2025-03", number: int = 2) -> None:
    """Let a generation train for a time, up to its artifact."""
    world.months.append(month)
    succeeds(world, job_of(world, "train", number), time)
    assert world.generation(number).status.artifact


def waiting(world: World) -> tuple[str, str, str]:
    status = world.update.status
    return status.phase, status.progress.summary, status.progress.waiting_for


@pytest.mark.survives(
    "Jobs and pods",
    "the pods of an update used `maxGpuSecondsPerDay` within 24 hours",
    "no Job with a GPU is created until enough of them are older; the message has number, limit "
    "and time",
)
def test_the_evaluation_waits_until_enough_gpu_seconds_are_a_day_old() -> None:
    world = limited(3600)
    world.months.append("2025-03")
    name = job_of(world, "train", 2)
    began = world.now
    succeeds(world, name, HOUR)
    phase, summary, message = waiting(world)
    free = began + DAY + SECOND
    assert phase == "Queued"
    assert summary == f"GPU budget until {free:%d %b %H:%M}"
    assert message == (
        "the pods of this update used 3,600 GPU seconds in the 24 hours before"
        f" {began + HOUR:%Y-%m-%d %H:%M:%S} UTC; at most 3,600"
        " (training.limits.maxGpuSecondsPerDay); the next Job with a GPU starts"
        f" at {free:%Y-%m-%d %H:%M:%S} UTC, or when the limit is raised"
    )
    assert world.plan.wake_after == free - world.now
    world.now = free - SECOND
    world.settle()
    assert not jobs(world, "evaluate")
    world.now = free
    world.settle()
    assert jobs(world, "evaluate")


def test_it_is_no_stall_and_nobody_must_act() -> None:
    world = limited(3600)
    trained(world, HOUR)
    true = {c.type: c.status for c in world.update.status.conditions}
    assert (true["Ready"], true["ActionRequired"]) == ("True", "False")
    assert "Stalled" not in true


@pytest.mark.parametrize("most", [None, 3601])
def test_a_raised_limit_counts_at_once_for_a_run_in_progress(most: int | None) -> None:
    world = limited(3600)
    trained(world, HOUR)
    assert not jobs(world, "evaluate")
    limit(world, most)
    assert jobs(world, "evaluate")


def test_a_running_job_is_not_ended_by_the_limit() -> None:
    world = limited(60)
    world.months.append("2025-03")
    name = job_of(world, "train", 2)
    runs(world, name, 50 * HOUR)
    assert name in world.jobs
    assert not world.jobs[name].suspended
    assert waiting(world)[0] == "Training"


def test_what_runs_counts_before_it_ends() -> None:
    """It is a pod's running time that counts, wherever the pod is recorded."""
    world = limited(1800)
    world.months.append("2025-03")
    name = job_of(world, "train", 2)
    runs(world, name, HOUR)
    world.edit(suspend=True)
    world.settle()
    world.edit(suspend=False)
    world.settle()
    assert world.jobs[name].suspended, "a suspended Job is not resumed"
    assert waiting(world)[0] == "Queued"
    began = world.generation(2).status.training.pods[0].started_at
    world.now = began + DAY + HOUR / 2 + SECOND
    world.settle()
    assert not world.jobs[name].suspended


def test_no_run_starts_by_itself_while_the_budget_is_used_up() -> None:
    world = limited(7200)
    trained(world, HOUR)
    succeeds(world, job_of(world, "evaluate", 2), HOUR)
    world.rounds(2)
    assert world.generation(2).status.outcome == "Live"
    world.months.append("2025-04")
    world.rounds(4)
    phase, summary, message = waiting(world)
    assert phase == "Idle"
    assert summary.startswith("GPU budget until")
    assert "the next run starts at" in message
    assert not world.jobs
    assert "shop-g3" not in world.generations


def test_a_run_by_request_is_prepared_and_waits_for_its_gpu() -> None:
    world = limited(7200)
    trained(world, HOUR)
    succeeds(world, job_of(world, "evaluate", 2), HOUR)
    world.rounds(2)
    world.months.append("2025-04")
    world.ask("run@3")
    world.rounds(2)
    assert world.generation(3).status.training is None
    assert waiting(world)[0] == "Queued"
    world.now += DAY
    world.settle()
    assert jobs(world, "train")


@pytest.mark.survives(
    "Jobs and pods",
    "an attempt fails after its pod used up `maxGpuSecondsPerDay`",
    "the failure counts once, the time of its pod does not grow, and the next attempt starts when "
    "the budget allows it",
)
def test_the_next_attempt_waits_for_the_budget_and_nothing_is_counted_twice() -> None:
    world = limited(3600, gpus=2)
    world.months.append("2025-03")
    name = job_of(world, "train", 2)
    began = world.now
    runs(world, name, HOUR)
    world.fail(name, 137)
    world.settle()
    world.now += MAX_BACK_OFF
    world.settle()
    for _ in range(5):
        world.now += HOUR
        world.settle()
        training = world.generation(2).status.training
        assert (training.attempt, training.failed_attempts) == (2, 1)
        assert [(of.attempt, of.ended_at) for of in training.gpu_runs] == [(1, began + HOUR)]
        assert not training.pods
        assert world.generation(2).status.gpu_seconds == 7200
        assert world.update.status.counters.gpu_seconds == 7200
    world.now = began + DAY + HOUR / 2 + SECOND
    world.settle()
    training = world.generation(2).status.training
    assert (training.attempt, training.failed_attempts) == (2, 1)
    assert world.generation(2).status.gpu_seconds == 7200
    assert world.events.count("ExitCode137") == 1


def test_why_an_attempt_failed_is_known_if_its_job_is_deleted_while_the_next_one_waits() -> None:
    world = limited(3600)
    world.months.append("2025-03")
    name = job_of(world, "train", 2)
    runs(world, name, HOUR)
    world.fail(name, ExitCode.OUT_OF_MEMORY)
    world.settle()
    world.now += MAX_BACK_OFF
    world.settle()
    world.jobs.pop(name, None)
    world.settle()
    assert not jobs(world, "train")
    world.now += DAY
    world.settle()
    training = world.generation(2).status.training
    assert (training.attempt, training.failed_attempts) == (2, 1)
    assert training.batch_divisor == 2
    assert "ran out of memory" in training.last_failure
    assert world.events.count("OutOfMemory") == 1
    assert len(jobs(world, "train")) == 1


def test_a_job_that_another_client_deleted_ran_until_that_was_seen() -> None:
    world = limited(3600)
    world.months.append("2025-03")
    name = job_of(world, "train", 2)
    runs(world, name, HOUR)
    del world.jobs[name]
    world.settle()
    ended = world.now
    world.now += 3 * HOUR
    world.settle()
    training = world.generation(2).status.training
    assert [(of.attempt, of.ended_at) for of in training.gpu_runs] == [(1, ended)]
    assert world.generation(2).status.gpu_seconds == 3600


def test_a_recorded_attempt_without_a_job_waits_when_the_limit_was_lowered_since() -> None:
    world = limited(None)
    trained(world, HOUR)
    name = job_of(world, "evaluate", 2)
    evaluation = world.generation(2).status.evaluation.model_copy(update={"job_uid": ""})
    status = world.generation(2).status.model_copy(update={"evaluation": evaluation})
    world.generations["shop-g2"] = world.generation(2).model_copy(update={"status": status})
    del world.jobs[name]
    world.attempts_recorded.discard(name)
    limit(world, 3600)
    world.settle()
    assert not jobs(world, "evaluate")
    assert waiting(world)[0] == "Queued"
    limit(world, 7200)
    assert jobs(world, "evaluate") == [name]


def test_an_update_without_a_gpu_has_used_none() -> None:
    world = limited(60, gpus=0)
    trained(world, HOUR)
    succeeds(world, job_of(world, "evaluate", 2), HOUR)
    world.rounds(2)
    status = world.update.status
    assert world.generation(2).status.outcome == "Live"
    assert world.generation(2).status.training.running_seconds == 3600
    assert (status.counters.gpu_seconds, status.gpu_seconds_last_day) == (0, 0)
    assert world.generation(2).status.training.gpu_runs == []


@pytest.mark.survives(
    "Operator",
    "the update is deleted and created again while `maxGpuSecondsPerDay` is used up",
    "what its generations used counts for the new update",
)
def test_a_recreated_update_has_no_new_budget() -> None:
    world = limited(3600)
    trained(world, HOUR)
    world.recreate()
    world.settle()
    world.months.append("2025-04")
    world.rounds(3)
    assert waiting(world)[1].startswith("GPU budget until")
    assert not jobs(world, "train")


def test_generations_beyond_the_history_count_until_their_seconds_are_a_day_old() -> None:
    world = limited(10_000_000)
    world.edit(history={"generations": 2, "rejected": 0})
    for number, month in enumerate(MONTHS[2:6], start=2):
        trained(world, HOUR, month, number)
        succeeds(world, job_of(world, "evaluate", number), HOUR)
        world.rounds(3)
    assert world.update.status.gpu_seconds_last_day == 4 * 7200
    used = sum(g.status.gpu_seconds for g in world.generations.values())
    assert used == 4 * 7200
    world.now += 2 * DAY
    world.rounds(4)
    assert world.update.status.gpu_seconds_last_day == 0
    assert world.update.status.counters.gpu_seconds == 4 * 7200
    assert "shop-g2" not in world.generations


@pytest.mark.survives(
    "API server",
    "the API server's clock is set back by more than a day after a GPU was used",
    "seconds that are ahead of the clock prolong no wait for `maxGpuSecondsPerDay`",
)
def test_a_clock_that_is_set_back_frees_the_budget() -> None:
    world = limited(3600)
    trained(world, HOUR)
    world.now -= timedelta(hours=30)
    world.settle()
    assert jobs(world, "evaluate")


def test_a_clock_that_is_set_back_into_a_run_changes_no_status_each_second() -> None:
    world = limited(3600)
    trained(world, 10 * HOUR)
    world.now -= HOUR
    world.settle()
    before = world.update.status
    world.now += SECOND
    world.settle()
    assert world.update.status == before


def test_a_nightly_run_that_takes_the_whole_budget_starts_at_the_same_time_each_night() -> None:
    """The day slides with the pods' own times: a run does not wait for the end of the last one."""
    world = limited(7200)
    for number, month in enumerate(MONTHS[2:5], start=2):
        night = world.now.replace(hour=2, minute=0) + DAY
        world.now = night
        world.months.append(month)
        world.ask(f"run@{number}")
        world.settle()
        name = job_of(world, "train", number)
        assert world.now - night <= timedelta(minutes=5)
        succeeds(world, name, HOUR)
        succeeds(world, job_of(world, "evaluate", number), HOUR)
        world.rounds(2)


def test_the_use_of_a_day_is_shown_up_to_the_last_hour_or_the_last_end_of_a_pod() -> None:
    world = limited(None)
    world.months.append("2025-03")
    name = job_of(world, "train", 2)
    world.now = world.now.replace(minute=30)
    runs(world, name, 45 * MINUTE)
    assert world.update.status.gpu_seconds_last_day == 1800, "up to the full hour"
    world.succeed(name, world._result(world.runs[name]))
    world.settle()
    assert world.update.status.gpu_seconds_last_day == 2700
    world.now += DAY
    world.settle()
    assert world.update.status.gpu_seconds_last_day == 15 * 60, "from 13:00 to 13:15"
