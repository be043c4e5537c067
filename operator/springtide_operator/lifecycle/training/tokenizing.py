"""Lets pods without a GPU tokenize the rows of a training, so that its GPUs do not wait for that.

One Indexed Job, which is its own record: it only saves time. Once it has ended, well or not, or its
pods do not get to run, the training starts and tokenizes what is missing.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_api.contract import ArtifactRef, TokenizeInput
from springtide_api.generation.status import StageRun
from springtide_api.names import job_name
from springtide_api.schema import duration
from springtide_operator.lifecycle.jobs.attempt_outcome import why_failed, why_pods_wait
from springtide_operator.lifecycle.jobs.pod_waiting import queued
from springtide_operator.lifecycle.jobs.run_files import (
    artifact_ref,
    home,
    result_name,
    run_file,
)
from springtide_operator.lifecycle.jobs.stage import SOON
from springtide_operator.lifecycle.jobs.suspension import resuming, suspending
from springtide_operator.lifecycle.state.plan import RECHECK, Event, StartJob, Step, Waiting
from springtide_operator.lifecycle.state.recipe import trainer_image

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedJob
    from springtide_operator.lifecycle.state.plan import Action

TITLE = "Tokenize"

PATIENCE = timedelta(minutes=15)
"""How long a training waits for pods of which none can run, without pendingTimeout."""


def tokenize(seen: Observation, generation: ModelGeneration, now: datetime) -> Step | None:
    """Wait for the pods that tokenize the rows of a training; None: it may start."""
    pods = _pods(generation)
    if pods == 1:
        return None
    job = _job(seen, generation)
    if job is None:
        return Step(actions=(_start_job(seen, generation, pods),), wake_after=SOON)
    if job.deleting or job.succeeded or job.failed:
        return None
    if step := resuming(seen, job, TITLE, now):
        return step
    why, since = why_pods_wait(seen, job, StageRun(job=job.name))
    if not why:
        return Step(waiting=_tokenizing(generation, job), wake_after=RECHECK)
    patience, pause = _patience(generation, job), RECHECK
    if since and patience:
        left = since + patience - now
        if left <= timedelta(0):
            return None
        pause = min(left, RECHECK)
    return Step(waiting=queued(why, TITLE), wake_after=pause)


def suspend_tokenizing(seen: Observation, generation: ModelGeneration) -> tuple[Action, ...]:
    """Return what suspends the Job with its update; nothing where it is done, or has ended."""
    job = _job(seen, generation) if _pods(generation) > 1 else None
    if job is None or job.deleting or job.succeeded or job.failed:
        return ()
    return suspending(seen, job)


def not_tokenized(job: ObservedJob) -> Event:
    """Report why a Job leaves rows to its training."""
    why = why_failed(job) if job.failed else job.problem or _why_a_pod_waits(job)
    message = f"Job {job.name} did not tokenize all rows: {why[:800]}"
    return Event("TokenizeFailed", f"{message}; the training tokenizes the others", "Warning")


def _why_a_pod_waits(job: ObservedJob) -> str:
    why = next((pod.waiting for pod in job.pods if pod.waiting), "")
    return why or "its pods did not get to run"


def _pods(generation: ModelGeneration) -> int:
    """How many pods share the rows; 1: the training tokenizes them itself."""
    spec = generation.spec
    return spec.recipe.data.window.pods_for(spec.data.rows) if spec.data else 1


def _name(seen: Observation, generation: ModelGeneration) -> str:
    meta = seen.update.metadata
    return job_name(meta.name, meta.uid, generation.spec.number, "tokenize", 1)


def _job(seen: Observation, generation: ModelGeneration) -> ObservedJob | None:
    return seen.job(_name(seen, generation))


def _start_job(seen: Observation, generation: ModelGeneration, pods: int) -> StartJob:
    spec, name = generation.spec, _name(seen, generation)
    assert spec.data and spec.data.manifest and spec.data.digest and spec.parent  # noqa: PT018
    asked = TokenizeInput(
        parent=artifact_ref(home(seen, spec.recipe), spec.parent.digest),
        data=ArtifactRef(uri=spec.data.manifest, digest=spec.data.digest),
        pods=pods,
    )
    shared = run_file(seen, "tokenize", spec.recipe, number=spec.number, job=name, attempt=1)
    return StartJob(
        run=shared.model_copy(
            update={"tokenize": asked, "result": result_name(generation, "train")}
        ),
        image=spec.recipe.training.image or trainer_image(seen),
    )


def _tokenizing(generation: ModelGeneration, job: ObservedJob) -> Waiting:
    rows = generation.spec.data.rows if generation.spec.data else 0
    return Waiting("Tokenizing", "", TITLE, short=f"{job.nodes} pods tokenize {rows:,} rows")


def _patience(generation: ModelGeneration, job: ObservedJob) -> timedelta | None:
    """How long none of its pods may run; in a queue a wait is longer, and costs nothing."""
    asked = generation.spec.recipe.training.compute.pending_timeout
    if asked:
        return duration(asked)
    return None if job.queue else PATIENCE
