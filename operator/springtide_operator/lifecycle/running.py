"""How a stage with a Job goes on: recorded, made, watched, tried again, done or given up.

Import, training, evaluation and collection differ in what they ask for and in what their result
means, not in this.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

from springtide_api.contract import Result, RunFile
from springtide_api.names import job_name
from springtide_api.schema import duration
from springtide_operator.lifecycle.attempts import (
    GRACE,
    Absent,
    Done,
    Hopeless,
    Lost,
    Under,
    Unrecorded,
    outcome,
    pause_before,
)
from springtide_operator.lifecycle.lineage import SPEC_CHANGED, recipe, trainer_image
from springtide_operator.lifecycle.pending import outdated, queued
from springtide_operator.lifecycle.plan import Announcement, StartJob, Step, SuspendJob, Waiting
from springtide_operator.lifecycle.running_time import measure, settle, time_left, to_record

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from springtide_api.contract import Stage
    from springtide_api.generation import Recipe, StageRun
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.observation import Observation
    from springtide_operator.lifecycle.plan import Action, WriteGeneration

SOON = timedelta(seconds=5)
LOOK = timedelta(seconds=30)


@dataclass(frozen=True)
class Finished:
    """The stage has a result."""

    result: Result
    run: StageRun
    """The record with the running time of all pods."""


@dataclass(frozen=True)
class GivenUp:
    """The stage will have none."""

    reason: str
    message: str
    run: StageRun
    """The record with the running time of all pods."""


@dataclass(frozen=True)
class Ask:
    """What one stage of one generation wants to run."""

    stage: Literal["import", "train", "evaluate", "collect"]
    title: str
    """The stage in the column: Import, Train, Evaluate."""
    generation: ModelGeneration
    run: Callable[[StageRun], RunFile]
    """The run file of an attempt."""
    write: Callable[[StageRun], WriteGeneration]
    """The generation's status with that attempt recorded."""
    gpus: int = 0


def home(seen: Observation, recipe: Recipe) -> str:
    """Folder of this update in the storage."""
    meta = seen.update.metadata
    root = recipe.storage.uri.removeprefix("file://").rstrip("/")
    return f"{root}/{meta.namespace}/{meta.name}"


def run_file(
    seen: Observation, stage: Stage, recipe: Recipe, *, number: int | None, job: str, attempt: int
) -> RunFile:
    """The part of a run file that all stages share."""
    return RunFile(
        stage=stage,
        namespace=seen.update.metadata.namespace,
        update=seen.update.metadata.name,
        number=number,
        attempt=attempt,
        job=job,
        home=home(seen, recipe),
        recipe=recipe,
    )


def name_of(seen: Observation, ask: Ask, attempt: int) -> str:
    """Name of the Job of one attempt."""
    meta = seen.update.metadata
    return job_name(meta.name, meta.uid, ask.generation.spec.number, ask.stage, attempt)


def begin(seen: Observation, ask: Ask, run: StageRun, attempt: int) -> Step:
    """Record an attempt, then make its Job."""
    recorded = settle(run).model_copy(
        update={"job": name_of(seen, ask, attempt), "attempt": attempt, "job_uid": ""}
    )
    return Step(actions=(ask.write(recorded), _start(seen, ask, recorded)), wake_after=SOON)


def _start(seen: Observation, ask: Ask, run: StageRun) -> StartJob:
    asked, gpus = ask.run(run), ask.gpus
    if ask.stage == "evaluate" and run.attempt > 1:
        # What is judged is the snapshot's; a pod that never runs would keep it from a verdict.
        now = seen.update.spec.training
        pods = {"compute": now.compute, "image": trainer_image(seen)}
        training = asked.recipe.training.model_copy(update=pods)
        recipe = asked.recipe.model_copy(update={"training": training})
        asked, gpus = asked.model_copy(update={"recipe": recipe}), min(1, now.compute.gpus_per_node)
    image = asked.recipe.training.image or trainer_image(seen)
    return StartJob(run=asked, image=image, gpus=gpus)


def advance(seen: Observation, ask: Ask, run: StageRun, now: datetime) -> Step | Finished | GivenUp:
    """Take the recorded attempt one step further."""
    job = seen.job(run.job)
    measured = measure(run, job, now)
    if to_record(run, measured, job):
        return Step(actions=(ask.write(measured),))
    if seen.update.spec.suspend:
        return _suspended(seen, ask, run)
    return _advance(seen, ask, measured, now)


def _advance(
    seen: Observation, ask: Ask, run: StageRun, now: datetime
) -> Step | Finished | GivenUp:
    match outcome(seen, run, now):
        case Absent():
            return Step(actions=(_start(seen, ask, run),), wake_after=SOON)
        case Unrecorded(job):
            return Step(actions=(ask.write(run.model_copy(update={"job_uid": job.uid})),))
        case Under() as under:
            return _under_way(seen, ask, run, under, now)
        case Done(_, result):
            return Finished(result, settle(run))
        case Hopeless(reason, message):
            return GivenUp(reason, message, settle(run))
        case Lost() as lost:
            return _again(seen, ask, run, lost, now)


def _suspended(seen: Observation, ask: Ask, run: StageRun) -> Step:
    job = seen.job(run.job)
    running = job is not None and not (job.suspended or job.succeeded or job.failed)
    actions: tuple[Action, ...] = ()
    if job is not None and running:
        actions = (SuspendJob(job.name, job.uid, suspend=True),)
    message = "spec.suspend is true; set it to false to go on"
    return Step(actions=actions, waiting=Waiting("Suspended", message, ask.title))


def _under_way(
    seen: Observation, ask: Ask, run: StageRun, under: Under, now: datetime
) -> Step | GivenUp:
    job, waiting, recipe = under.job, under.waiting, ask.generation.spec.recipe
    ended = job.succeeded or job.failed  # what its pod says is still to come
    left = time_left(run, recipe, now)
    if left <= timedelta(0) and not ended:
        return _out_of_time(ask, run, now)
    if job.suspended and job.suspended_by_us:
        return Step(actions=(SuspendJob(job.name, job.uid, suspend=False),))
    if not waiting:
        pause = GRACE if ended else min(left, timedelta(minutes=1))
        return Step(waiting=Waiting("Running", "", ask.title), wake_after=pause)
    if not job.deleting and (gives_way := _other_pods(seen, ask, run, under)):
        return gives_way
    patience, pause = recipe.training.compute.pending_timeout, LOOK
    if under.since and patience:
        left = under.since + duration(patience) - now
        if left <= timedelta(0):
            message = f"{waiting}; it waited for {patience} (training.compute.pendingTimeout)"
            return GivenUp("PendingTimeout", message, settle(run))
        pause = min(left, LOOK)
    return Step(waiting=queued(waiting, ask.title), wake_after=pause)


def _out_of_time(ask: Ask, run: StageRun, now: datetime, lost: str = "") -> GivenUp:
    """End the run: its Job is deleted once that is in status."""
    limit = ask.generation.spec.recipe.training.limits.active_deadline
    why = f"{lost}; " if lost else ""
    message = (
        f"{why}the pods of stage {ask.stage} ran for {limit} (training.limits.activeDeadline); "
        "raise it, or give the stage less to do"
    )
    return GivenUp("DeadlineExceeded", message, settle(measure(run, None, now)))


def _other_pods(seen: Observation, ask: Ask, run: StageRun, under: Under) -> Step | GivenUp | None:
    """Make way for the pods that the spec asks for by now, where no work is lost by that.

    Training that ran before keeps its place: its weights or its checkpoint stay the snapshot's.
    """
    outdates = outdated(recipe(seen), ask.generation.spec.recipe)
    message = f"{under.waiting}; the spec asks for other pods by now"
    if ask.stage == "evaluate":
        job = under.job
        edited = job.spec_generation != seen.update.metadata.generation
        edited = edited or job.image != trainer_image(seen)
        if edited and (outdates or run.attempt > 1):
            anew = run.model_copy(update={"last_failure": message[:1024]})
            return begin(seen, ask, anew, run.attempt + 1)
        return None
    ran = ask.stage == "train" and (run.attempt > 1 or under.job.name in seen.progress)
    return GivenUp(SPEC_CHANGED, message, settle(run)) if outdates and not ran else None


def _again(seen: Observation, ask: Ask, run: StageRun, lost: Lost, now: datetime) -> Step | GivenUp:
    limits = ask.generation.spec.recipe.training.limits
    counted = run.counted + (1 if lost.counted else 0)
    if lost.out_of_memory and ask.stage == "import":
        return GivenUp(lost.reason, lost.message, settle(run))  # no batch to halve
    if lost.out_of_memory and limits.on_out_of_memory == "Fail":
        message = f"{lost.message} (training.limits.onOutOfMemory is Fail)"
        return GivenUp(lost.reason, message, settle(run))
    if counted >= limits.max_attempts:
        message = f"{lost.message}; {counted} of {limits.max_attempts} attempts spent"
        return GivenUp(lost.reason, f"{message} (training.limits.maxAttempts)", settle(run))
    if time_left(run, ask.generation.spec.recipe, now) <= timedelta(0):
        return _out_of_time(ask, run, now, lost.message)
    pause = pause_before(counted if lost.counted else run.attempt - run.counted - 1)
    left = (lost.at or now) + pause - now
    if left > timedelta(0) and lost.at is not None:
        message = f"{lost.message}; trying again in {int(left.total_seconds()) + 1} s"
        return Step(waiting=Waiting(lost.reason, message, ask.title), wake_after=left)
    step = begin(seen, ask, lose(run, lost, counted), run.attempt + 1)
    event = Announcement(
        reason=lost.reason,
        message=lost.message,
        type="Warning",
        generation=ask.generation.metadata.name,
    )
    return Step(actions=step.actions, events=(event,), wake_after=step.wake_after)


def lose(run: StageRun, lost: Lost, counted: int) -> StageRun:
    """The record after a lost attempt, with smaller batches if memory ran out."""
    changes: dict[str, object] = {"counted": counted, "last_failure": lost.message[:1024]}
    if lost.out_of_memory and hasattr(run, "batch_divisor"):
        divisor = run.batch_divisor * 2
        changes["batch_divisor"] = divisor
        changes["adjustments"] = [
            *run.adjustments,  # type: ignore[attr-defined]
            f"batches of 1/{divisor} of batchSize after running out of memory",
        ][-8:]
    return run.model_copy(update=changes)
