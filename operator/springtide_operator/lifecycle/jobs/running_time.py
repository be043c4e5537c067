"""How long the pods of a stage ran: what activeDeadline limits and GPU seconds count.

Waiting for a GPU or a queue, and time suspended, are not running time. A pod is recorded in status
when it is observed running, so that its time counts even if it is gone before its end is observed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_api.generation.status import PodRun
from springtide_api.schema import duration
from springtide_operator.lifecycle.jobs.gpu_seconds import record, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from springtide_api.generation.spec import Recipe
    from springtide_api.generation.status import StageRun
    from springtide_operator.lifecycle.state.observed import ObservedJob

MEASURED = ("pods", "image_digest", "running_seconds", "gpu_seconds", "gpu_runs")
"""Fields of a stage's record that follow from its pods."""

MAX_PODS, MAX_OF_SEVERAL = 8, 40
"""Pods of one attempt that are recorded: a Job that is suspended and resumed has several, and one
of several pods has some at one time."""


def measure(run: StageRun, job: ObservedJob | None, now: datetime) -> StageRun:
    """Add what is observed of the Job's pods to the record of the attempt.

    A recorded pod that is gone ended at the latest when its Job did or was suspended, when it was
    resumed after that, or now.
    """
    if not run.job_uid:
        return run
    own = job if job is not None and job.uid == run.job_uid else None
    seen = own.pods if own else ()
    known = {pod.uid: pod for pod in run.pods}
    for pod in seen:
        if pod.started is not None:
            held = known[pod.uid].gpus if pod.uid in known else own.gpus if own else 0
            known[pod.uid] = PodRun(
                uid=pod.uid, started_at=pod.started, ended_at=pod.ended, gpus=held
            )
    runs = {pod.uid for pod in seen if pod.exit_code is None and own and own.finished is None}
    pods = [
        pod
        if pod.ended_at or pod.uid in runs
        else pod.model_copy(update={"ended_at": _latest_end(pod, own, now)})
        for pod in sorted(known.values(), key=lambda pod: pod.started_at)
    ]
    gone = [pod for pod in pods if pod.uid not in {each.uid for each in seen}]
    images = [pod.image_digest for pod in seen if pod.image_digest]
    changes = {"pods": pods, "image_digest": images[-1] if images else run.image_digest}
    most = MAX_OF_SEVERAL if own and own.nodes > 1 else MAX_PODS
    if own is None:
        most = max(most, len(run.pods))
    return _sum_up(run.model_copy(update=changes), gone[: max(len(pods) - most, 0)])


def _latest_end(pod: PodRun, job: ObservedJob | None, now: datetime) -> datetime:
    """When a pod that is gone ended at the latest; a resume may be all that is left to see."""
    times = [job.finished or job.suspended_at] if job else []
    if job and job.resumed and job.resumed > pod.started_at:
        times.append(job.resumed)
    return max(min([now, *filter(None, times)]), pod.started_at)


def must_record(run: StageRun, measured: StageRun, job: ObservedJob | None) -> bool:
    """Whether the measured times must be written now: a pod began to run, or a Job was suspended.

    The end of a Job is written together with its outcome.
    """
    if job is None or job.succeeded or job.failed or measured.pods == run.pods:
        return False
    known = {pod.uid for pod in run.pods}
    began = any(pod.ended_at is None and pod.uid not in known for pod in measured.pods)
    return began or job.suspended


def close_attempt(run: StageRun, now: datetime) -> StageRun:
    """Sum up the pods of an attempt that is over.

    A pod of another node may run on when the first one has the result: its Job is deleted next.
    """
    over = [
        pod if pod.ended_at else pod.model_copy(update={"ended_at": max(now, pod.started_at)})
        for pod in run.pods
    ]
    return _sum_up(run.model_copy(update={"pods": over}), over)


def end_stage(run: StageRun, job: ObservedJob | None, now: datetime) -> StageRun:
    """Sum up the pods of a stage that ends now, whatever its Job does: it is deleted next."""
    return close_attempt(measure(run, job, now), now)


def time_left(run: StageRun, recipe: Recipe, now: datetime) -> timedelta:
    """Running time that is left of `limits.activeDeadline`; not above zero: it is used up."""
    ran = run.running_seconds + _together(run.pods, now)
    return duration(recipe.training.limits.active_deadline) - timedelta(seconds=ran)


def _together(pods: Iterable[PodRun], now: datetime) -> int:
    """Seconds in which any of the pods ran: time of several at once counts once."""
    total, until = 0, None
    for pod in sorted(pods, key=lambda pod: pod.started_at):
        end = pod.ended_at or now
        if until is None or end > until:
            start = pod.started_at if until is None else max(pod.started_at, until)
            total += max(int((end - start).total_seconds()), 0)
            until = max(end, start)
    return total


def _sum_up(run: StageRun, over: list[PodRun]) -> StageRun:
    """Add up pods that ended, and drop them from the record."""
    ran = [(seconds(pod, pod.ended_at), pod.gpus) for pod in over if pod.ended_at]
    kept = [pod for pod in run.pods if pod not in over]
    last = max((pod.ended_at for pod in over if pod.ended_at), default=None)
    alone = _together([*over, *kept], last) - _together(kept, last) if last else 0
    return run.model_copy(
        update={
            "pods": kept,
            "running_seconds": run.running_seconds + alone,
            "gpu_seconds": run.gpu_seconds + sum(each * gpus for each, gpus in ran),
            "gpu_runs": record(run, over),
        }
    )
