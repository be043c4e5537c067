"""Advances a stage that runs as a Job: record, create, watch, retry, finish or fail.

Import, training, evaluation and collection differ in what they request and in what their result
means, not in this.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_api.names import job_name, job_set_name
from springtide_api.schema import duration
from springtide_operator.lifecycle.jobs.attempt_outcome import (
    GRACE,
    JobNotCreated,
    JobNotRecorded,
    PermanentFailure,
    RetryableFailure,
    Running,
    Succeeded,
    attempt_outcome,
)
from springtide_operator.lifecycle.jobs.failures import backoff, record_failure
from springtide_operator.lifecycle.jobs.gpu_budget import budget_used_up
from springtide_operator.lifecycle.jobs.pod_waiting import queued
from springtide_operator.lifecycle.jobs.queueing import cannot_queue, cannot_read, eviction
from springtide_operator.lifecycle.jobs.running_time import (
    MEASURED,
    close_attempt,
    measure,
    must_record,
    time_left,
)
from springtide_operator.lifecycle.jobs.suspension import resuming, suspending, suspension
from springtide_operator.lifecycle.state.generations import SPEC_CHANGED
from springtide_operator.lifecycle.state.plan import (
    RECHECK,
    Event,
    StartJob,
    Step,
    Waiting,
)
from springtide_operator.lifecycle.state.recipe import recipe, trainer_image, with_access
from springtide_operator.lifecycle.state.recorded_times import is_ahead

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import Literal

    from springtide_api.contract import Result, RunFile
    from springtide_api.generation.spec import Recipe
    from springtide_api.generation.status import StageRun
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.plan import WriteGeneration

SOON = timedelta(seconds=5)

PLACED = frozenset({"train", "evaluate"})
"""Stages whose pods run where training.compute says."""


@dataclass(frozen=True)
class StageSucceeded:
    """The stage has a result."""

    result: Result
    run: StageRun
    """The record with the running time of all pods."""


@dataclass(frozen=True)
class StageFailed:
    """The stage failed and will have no result."""

    reason: str
    message: str
    run: StageRun
    """The record with the running time of all pods."""


@dataclass(frozen=True)
class StageRequest:
    """What one stage of one generation wants to run."""

    stage: Literal["import", "train", "evaluate", "collect"]
    title: str
    """The stage in the column: Import, Train, Evaluate."""
    generation: ModelGeneration
    run: Callable[[StageRun], RunFile]
    """The run file of an attempt."""
    write: Callable[[StageRun], WriteGeneration]
    """The generation's status with that attempt recorded."""
    nodes: int = 1
    """Pods that run it together."""
    gpus: int = 0
    """Of each pod."""


def attempt_job_name(seen: Observation, request: StageRequest, attempt: int) -> str:
    """Name of the Job, or of the JobSet, of one attempt."""
    meta = seen.update.metadata
    if request.nodes > 1:
        return job_set_name(meta.name, meta.uid, request.generation.spec.number, attempt)
    return job_name(meta.name, meta.uid, request.generation.spec.number, request.stage, attempt)


def start_attempt(
    seen: Observation, request: StageRequest, run: StageRun, attempt: int, *, failed: bool = False
) -> Step:
    """Record an attempt, then create its Job, unless it must wait.

    After a failure it is recorded although it waits, for hours perhaps: only the Job that failed
    says why, and whoever deletes it in the meantime would delete that, too.
    """
    recorded = close_attempt(run, seen.now).model_copy(
        update={"job": attempt_job_name(seen, request, attempt), "attempt": attempt, "job_uid": ""}
    )
    start = _start_job(seen, request, recorded)
    if waits := _must_wait(seen, start, request.title, seen.now):
        if failed:
            return Step(actions=(request.write(recorded),))
        return _recorded_first(request, run, waits)
    return Step(actions=(request.write(recorded), start), wake_after=SOON)


def _must_wait(seen: Observation, start: StartJob, title: str, now: datetime) -> Step | None:
    """Why a Job is not created now: without JobSet, Kueue or GPU seconds."""
    waits = cannot_read(seen, start.nodes, title) or cannot_queue(seen, start, title)
    return waits or (budget_used_up(seen, now, title) if start.gpus else None)


def _recorded_first(request: StageRequest, run: StageRun, waits: Step) -> Step:
    """Wait, once the ends of the pods are in status: until then their time would grow."""
    status = request.generation.status
    before = status.evaluation if request.stage == "evaluate" else status.training
    if before is None or before.pods == run.pods:
        return waits
    measured = {name: getattr(run, name) for name in MEASURED}
    return Step(actions=(request.write(before.model_copy(update=measured)),))


def _start_job(seen: Observation, request: StageRequest, run: StageRun) -> StartJob:
    asked, gpus = request.run(run), request.gpus
    if request.stage == "evaluate" and run.attempt > 1:
        # The model is the snapshot's; a pod that never runs would delay its verdict forever.
        now = recipe(seen).training.compute
        pods = {"compute": now, "image": trainer_image(seen)}
        training = asked.recipe.training.model_copy(update=pods)
        changed = asked.recipe.model_copy(update={"training": training})
        asked, gpus = asked.model_copy(update={"recipe": changed}), min(1, now.gpus_per_node)
    image = asked.recipe.training.image or trainer_image(seen)
    placement = seen.update.spec.training.compute.placement() if request.stage in PLACED else None
    return StartJob(run=asked, image=image, nodes=request.nodes, gpus=gpus, placement=placement)


def advance(
    seen: Observation, request: StageRequest, run: StageRun, now: datetime
) -> Step | StageSucceeded | StageFailed:
    """Advance the recorded attempt by one step."""
    job = seen.job(run.job)
    if job is None and (waits := cannot_read(seen, request.nodes, request.title)):
        return _other_nodes(seen, request, run, waits)  # that it is missing means nothing
    measured = measure(run, job, now)
    if must_record(run, measured, job):
        return Step(actions=(request.write(measured),))
    if why := suspension(seen, request.title):
        return _suspended(seen, run, why)
    return _advance(seen, request, measured, now)


def _other_nodes(
    seen: Observation, request: StageRequest, run: StageRun, waits: Step
) -> Step | StageFailed:
    """Wait for JobSet, unless the spec requires other pods now: it may need none.

    Where the API server does not serve the kind, its objects and their pods are gone.
    """
    measured = measure(run, None, seen.now)
    if not seen.job_sets.served and measured.pods != run.pods:
        return Step(actions=(request.write(measured),))
    blocked = waits.waiting is not None and waits.waiting.blocked
    if not blocked or not pods_outdated(recipe(seen), request.generation.spec.recipe):
        return waits
    message = f"{waits.waiting.message if waits.waiting else ''}; the spec now requires other pods"
    return StageFailed(SPEC_CHANGED, message, close_attempt(measured, seen.now))


def _advance(
    seen: Observation, request: StageRequest, run: StageRun, now: datetime
) -> Step | StageSucceeded | StageFailed:
    match attempt_outcome(seen, run, now, request.nodes):
        case JobNotCreated():
            start = _start_job(seen, request, run)
            waits = _must_wait(seen, start, request.title, now)
            return waits or Step(actions=(start,), wake_after=SOON)
        case JobNotRecorded(job):
            return Step(actions=(request.write(run.model_copy(update={"job_uid": job.uid})),))
        case Running() as running:
            return _running(seen, request, run, running, now)
        case Succeeded(_, result):
            return StageSucceeded(result, close_attempt(run, now))
        case PermanentFailure(reason, message):
            return StageFailed(reason, message, close_attempt(run, now))
        case RetryableFailure() as failure:
            return _retry(seen, request, run, failure, now)


def _suspended(seen: Observation, run: StageRun, why: Waiting) -> Step:
    job = seen.job(run.job)
    ended = job is None or job.succeeded or job.failed
    return Step(actions=suspending(seen, job) if job and not ended else (), waiting=why)


def _running(
    seen: Observation, request: StageRequest, run: StageRun, running: Running, now: datetime
) -> Step | StageFailed:
    job, waiting, recipe = running.job, running.waiting, request.generation.spec.recipe
    ended = job.succeeded or job.failed  # the result of its pod may still arrive
    left = time_left(run, recipe, now)
    if left <= timedelta(0) and not ended:
        return _out_of_time(request, run, now)
    if not ended and (step := resuming(seen, job, request.title, now)):
        return step
    if not waiting:
        pause = GRACE if ended else min(left, timedelta(minutes=1))
        return Step(waiting=Waiting("Running", "", request.title), wake_after=pause)
    if not job.deleting and (replaced := _replace_outdated_pods(seen, request, run, running)):
        return replaced
    patience, pause = recipe.training.compute.pending_timeout, RECHECK
    if running.since and patience:
        left = running.since + duration(patience) - now
        if left <= timedelta(0):
            message = f"{waiting}; it waited for {patience} (training.compute.pendingTimeout)"
            return StageFailed("PendingTimeout", message, close_attempt(run, now))
        pause = min(left, RECHECK)
    waits = queued(waiting, request.title)
    events = eviction(seen, job, waits, request.generation.metadata.name)
    return Step(waiting=waits, wake_after=pause, events=events)


def _out_of_time(
    request: StageRequest, run: StageRun, now: datetime, failure: str = ""
) -> StageFailed:
    """End the run: its Job is deleted once that is in status."""
    limit = request.generation.spec.recipe.training.limits.active_deadline
    why = f"{failure}; " if failure else ""
    message = (
        f"{why}the pods of stage {request.stage} ran for {limit} (training.limits.activeDeadline); "
        "raise it, or reduce the work of the stage"
    )
    return StageFailed("DeadlineExceeded", message, close_attempt(run, now))


def _replace_outdated_pods(
    seen: Observation, request: StageRequest, run: StageRun, running: Running
) -> Step | StageFailed | None:
    """Replace pods by those that the spec requires now, where that loses no work.

    Training that ran before is kept: its checkpoint belongs to the snapshot. Its next pod reaches
    its files as the spec says now.
    """
    made_from = request.generation.spec.recipe
    outdated = pods_outdated(recipe(seen), made_from)
    message = f"{running.waiting}; the spec now requires other pods"
    edited = running.job.spec_generation != seen.update.metadata.generation
    if request.stage == "evaluate":
        edited = edited or running.job.image != trainer_image(seen)
        outdated = edited and (outdated or run.attempt > 1)
    elif outdated:
        together = len(run.pods) >= running.job.nodes
        ran = run.attempt > 1 or running.job.name in seen.progress or together
        if request.stage != "train" or not ran:
            return StageFailed(SPEC_CHANGED, message, close_attempt(run, seen.now))
        outdated = edited and with_access(seen, made_from) != made_from
    moved = request.stage in PLACED and running.job.placement != _placement(seen)
    if outdated or moved:
        outdated_run = run.model_copy(update={"last_failure": message[:1024]})
        return start_attempt(seen, request, outdated_run, run.attempt + 1)
    return None


def _retry(
    seen: Observation,
    request: StageRequest,
    run: StageRun,
    failure: RetryableFailure,
    now: datetime,
) -> Step | StageFailed:
    limits = request.generation.spec.recipe.training.limits
    counted = run.failed_attempts + (1 if failure.counted else 0)
    over = close_attempt(run, now)
    if failure.out_of_memory and request.stage == "import":
        return StageFailed(failure.reason, failure.message, over)  # no batch to halve
    if failure.out_of_memory and limits.on_out_of_memory == "Fail":
        message = f"{failure.message} (training.limits.onOutOfMemory is Fail)"
        return StageFailed(failure.reason, message, over)
    if counted >= limits.max_attempts:
        used = f"{counted} of {limits.max_attempts} attempts used (training.limits.maxAttempts)"
        return StageFailed(failure.reason, f"{failure.message}; {used}", over)
    if time_left(run, request.generation.spec.recipe, now) <= timedelta(0):
        return _out_of_time(request, run, now, failure.message)
    pause = backoff(counted if failure.counted else run.attempt - run.failed_attempts - 1)
    again = (failure.at or now) + pause
    if again > now and failure.at is not None and not is_ahead(failure.at, now):
        # A time, not the seconds left: each change of the message would be one more write.
        message = f"{failure.message}; the next attempt starts at {again:%H:%M:%S} UTC"
        waiting = Waiting(failure.reason, message, request.title)
        return Step(waiting=waiting, wake_after=again - now)
    recorded = record_failure(run, failure, counted)
    step = start_attempt(seen, request, recorded, run.attempt + 1, failed=True)
    event = Event(
        reason=failure.reason,
        message=failure.message,
        type="Warning",
        generation=request.generation.metadata.name,
    )
    return Step(actions=step.actions, events=(event,), wake_after=step.wake_after)


def _placement(seen: Observation) -> str:
    """What the update says now on where pods run, as an annotation of Jobs keeps it."""
    return seen.update.spec.training.compute.placement().digest()


def pods_outdated(now: Recipe, recipe: Recipe) -> bool:
    """Whether the spec requires other pods now: image, hardware, claims or identity changed."""
    asked, made = now.training.compute, recipe.training.compute
    patience = {"pending_timeout": made.pending_timeout}
    return (
        now.training.image != recipe.training.image
        or asked.model_copy(update=patience) != made
        or now.storage.volume != recipe.storage.volume
        or now.data.volume != recipe.data.volume
        or now.data.secret_name != recipe.data.secret_name
        or now.data.service_account_name != recipe.data.service_account_name
    )
