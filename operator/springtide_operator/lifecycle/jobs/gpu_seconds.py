"""What pods used of GPUs: running seconds times GPUs, in all and within 24 hours.

All of it derives from the generations' statuses: each pod with a GPU is in `pods` while its attempt
is the newest one, then in `gpuRuns`, by one write. So nothing is lost or counted twice by a crash.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from springtide_api.generation.status import GpuRun

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from springtide_api.generation.status import PodRun, StageRun
    from springtide_api.objects import ModelGeneration

DAY = timedelta(days=1)

MAX_RUNS = 16
"""Ended pods with a GPU that a stage records one by one."""


class Use(NamedTuple):
    """What one pod used; its seconds are spread evenly over the time that it ran."""

    started: datetime
    ended: datetime | None
    """None: it runs."""
    gpu_seconds: float
    """Of a pod that ended."""
    gpus: int = 0
    """Of a pod that runs."""

    def ended_by(self, now: datetime) -> Use:
        """The same; if it runs, as if it ended now."""
        if self.ended:
            return self
        used = max((now - self.started).total_seconds(), 0.0) * self.gpus
        return Use(self.started, max(now, self.started), used)


def gpu_seconds(generation: ModelGeneration) -> int:
    """GPU seconds of all pods of a generation that ended."""
    over = sum(run.gpu_seconds for run in _stages(generation))
    pods = (pod for run in _stages(generation) for pod in run.pods)
    return over + sum(seconds(pod, pod.ended_at) * pod.gpus for pod in pods if pod.ended_at)


def record(run: StageRun, over: Iterable[PodRun]) -> list[GpuRun]:
    """The stage's pods with a GPU that ended, with those that are over now.

    Of more than `MAX_RUNS`, neighbours that took the least time together become one: what that
    changes in the sum of a day is less than they used.
    """
    ended = [
        GpuRun(
            attempt=run.attempt,
            started_at=pod.started_at,
            ended_at=pod.ended_at,
            gpu_seconds=seconds(pod, pod.ended_at) * pod.gpus,
        )
        for pod in over
        if pod.gpus and pod.ended_at and pod.ended_at > pod.started_at
    ]
    runs = sorted([*run.gpu_runs, *ended], key=lambda each: each.started_at)
    while len(runs) > MAX_RUNS:
        pairs = range(len(runs) - 1)
        first = min(pairs, key=lambda at: runs[at + 1].ended_at - runs[at].started_at)
        runs[first : first + 2] = [_joined(*runs[first : first + 2])]
    return runs


def seconds(pod: PodRun, until: datetime) -> int:
    """Whole seconds that a pod ran."""
    return max(int((until - pod.started_at).total_seconds()), 0)


def used_within_a_day(generations: Iterable[ModelGeneration], until: datetime) -> float:
    """GPU seconds of all pods in the 24 hours up to a moment, of those that run as well."""
    return within_a_day((use for g in generations for use in uses(g)), until)


def within_a_day(used: Iterable[Use], until: datetime) -> float:
    """Of what was used, the GPU seconds in the 24 hours up to a moment."""
    return sum(_within(use, until - DAY, until) for use in used)


def uses(generation: ModelGeneration) -> Iterator[Use]:
    """What each pod of a generation used."""
    for run in _stages(generation):
        for each in run.gpu_runs:
            yield Use(each.started_at, each.ended_at, each.gpu_seconds)
        for pod in filter(lambda pod: pod.gpus, run.pods):
            used = seconds(pod, pod.ended_at) * pod.gpus if pod.ended_at else 0
            yield Use(pod.started_at, pod.ended_at, used, pod.gpus)


def shown_until(generations: Iterable[ModelGeneration], now: datetime) -> datetime:
    """Up to when the use of a day is shown: it must not change with every second.

    The last full hour, or the last end of a pod, if that is later. An end that is ahead of a clock
    that was set back is none.
    """
    hour = now.replace(minute=0, second=0, microsecond=0)
    ends = (use.ended for g in generations for use in uses(g))
    return max([hour, *(end for end in ends if end and end <= now)])


def _within(use: Use, since: datetime, until: datetime) -> float:
    end = min(use.ended or until, until)
    overlap = (end - max(use.started, since)).total_seconds()
    if overlap <= 0:
        return 0.0
    if use.ended is None:
        return overlap * use.gpus
    return use.gpu_seconds * (overlap / (use.ended - use.started).total_seconds())


def _joined(one: GpuRun, other: GpuRun) -> GpuRun:
    ends = {"ended_at": max(one.ended_at, other.ended_at)}
    return one.model_copy(update={**ends, "gpu_seconds": one.gpu_seconds + other.gpu_seconds})


def _stages(generation: ModelGeneration) -> list[StageRun]:
    runs = (generation.status.training, generation.status.evaluation)
    return [run for run in runs if run is not None]
