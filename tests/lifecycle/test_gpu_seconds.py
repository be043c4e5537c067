"""GPU seconds: each pod counts once, for as long as it ran, whatever ended it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lifecycle.test_running_time import HOUR, passes, train_job, training, trains

from springtide_api.generation.status import GpuRun, PodRun, StageRun
from springtide_operator.lifecycle.jobs.gpu_seconds import DAY, MAX_RUNS, Use, record, within_a_day

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_each_attempt_has_its_pods_with_their_gpu_seconds() -> None:
    world, name = trains(deadline="24h", gpus=2)
    world.begin(name)
    world.settle()
    first = world.now
    world.now += HOUR
    world.fail(name, 143, disrupted=True)
    passes(world, HOUR)
    world.begin(train_job(world))
    world.settle()
    second = world.now
    world.now += HOUR / 2
    world.fail(train_job(world), 143, disrupted=True)
    passes(world, HOUR)
    assert training(world).gpu_runs == [
        GpuRun(attempt=1, started_at=first, ended_at=first + HOUR, gpu_seconds=7200),
        GpuRun(attempt=2, started_at=second, ended_at=second + HOUR / 2, gpu_seconds=3600),
    ]
    assert world.generation(2).status.gpu_seconds == training(world).gpu_seconds == 10_800
    assert world.update.status.counters.gpu_seconds == 10_800


@pytest.mark.survives(
    "Jobs and pods",
    "a run is rejected, or its parent rolled back, while its pod runs",
    "the GPU seconds of that pod count up to then",
)
def test_a_run_that_a_person_ends_has_used_what_its_pod_used() -> None:
    world, name = trains(deadline="24h", gpus=2)
    world.begin(name)
    world.settle()
    world.now += HOUR
    world.ask("reject@1")
    world.settle()
    status = world.generation(2).status
    assert (status.verdict, status.training.pods) == ("Rejected", [])
    assert status.gpu_seconds == 2 * 3600
    assert world.update.status.counters.gpu_seconds == 2 * 3600
    passes(world, HOUR)
    assert world.update.status.counters.gpu_seconds == 2 * 3600


@pytest.mark.survives(
    "Operator",
    "an update with a running Job is deleted with `--cascade=orphan` and created again",
    "the Job is deleted, and what its pod used until then counts",
)
def test_an_orphaned_job_has_used_what_its_pod_used_until_it_was_adopted() -> None:
    world, name = trains(deadline="24h", gpus=2)
    world.begin(name)
    world.settle()
    world.now += HOUR
    world.recreate(cascade=False)
    world.settle()
    status = world.generation(2).status
    assert (status.reason, status.gpu_seconds) == ("Orphaned", 2 * 3600)
    assert world.update.status.counters.gpu_seconds == 2 * 3600


def test_what_another_version_recorded_without_pods_stays_in_the_sum() -> None:
    world, name = trains(deadline="24h", gpus=2)
    world.begin(name)
    world.settle()
    run = training(world).model_copy(update={"gpu_seconds": 100})
    status = world.generation(2).status.model_copy(update={"training": run})
    world.generations["shop-g2"] = world.generation(2).model_copy(update={"status": status})
    world.now += HOUR
    world.fail(name, 143, disrupted=True)
    passes(world, HOUR)
    assert world.generation(2).status.gpu_seconds == 2 * 3600 + 100


SPANS = st.lists(
    st.tuples(st.integers(-90_000, 90_000), st.integers(0, 100_000), st.integers(0, 8)), max_size=6
)


@given(spans=SPANS, until=st.integers(-1000, 100_000))
def test_within_a_day_is_the_part_of_each_pod_in_the_last_24_hours(
    spans: list[tuple[int, int, int]], until: int
) -> None:
    """Counted in another way: by the number of whole seconds in both intervals."""
    uses = [
        Use(NOON + start * SECOND, NOON + (start + length) * SECOND, length * gpus)
        for start, length, gpus in spans
    ]
    expected = sum(
        gpus * len(range(max(start, until - 86_400), min(start + length, until)))
        for start, length, gpus in spans
    )
    assert within_a_day(uses, NOON + until * SECOND) == pytest.approx(expected)


@given(spans=SPANS)
def test_what_was_used_falls_only_as_time_passes(spans: list[tuple[int, int, int]]) -> None:
    ended = NOON + 200_000 * SECOND
    uses = [
        Use(NOON + start * SECOND, NOON + (start + length) * SECOND, length * gpus)
        for start, length, gpus in spans
    ]
    sums = [within_a_day(uses, ended + hour * HOUR) for hour in range(26)]
    assert sums == sorted(sums, reverse=True)
    assert sums[-1] == 0


@given(st.lists(st.tuples(st.integers(0, 9000), st.integers(1, 9000)), max_size=40))
def test_pods_beyond_the_bound_are_joined_and_lose_no_second(spans: list[tuple[int, int]]) -> None:
    run = StageRun(job="j", attempt=3)
    for number, (start, length) in enumerate(spans):
        began, ended = NOON + start * SECOND, NOON + (start + length) * SECOND
        pod = PodRun(uid=str(number), started_at=began, ended_at=ended, gpus=2)
        run = run.model_copy(update={"gpu_runs": record(run, [pod])})
    assert len(run.gpu_runs) <= MAX_RUNS
    assert sum(each.gpu_seconds for each in run.gpu_runs) == sum(2 * n for _, n in spans)
    assert all(each.started_at < each.ended_at for each in run.gpu_runs)
    starts = [each.started_at for each in run.gpu_runs]
    assert starts == sorted(starts)


def test_pods_without_a_gpu_or_without_a_second_are_not_recorded() -> None:
    run = StageRun(job="j")
    times = {"started_at": NOON, "ended_at": NOON + DAY}
    assert record(run, [PodRun(uid="cpu", gpus=0, **times)]) == []
    assert record(run, [PodRun(uid="short", gpus=1, started_at=NOON, ended_at=NOON)]) == []
    assert record(run, [PodRun(uid="open", gpus=1, started_at=NOON)]) == []
