"""Deletes Jobs whose outcome is in status, or of no use any more."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.jobs.attempt_outcome import why_failed
from springtide_operator.lifecycle.probing.probe_job import consumed
from springtide_operator.lifecycle.state.generations import finished, unknown_value
from springtide_operator.lifecycle.state.plan import DeleteJob, Event, Step
from springtide_operator.lifecycle.training.tokenizing import not_tokenized

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedJob

COLLECT_AGAIN = timedelta(minutes=10)
"""A failed deletion in the storage is retried after this time: nothing waits for it."""


def delete_finished_jobs(seen: Observation, now: datetime) -> Step | None:
    """Delete Jobs whose outcome is in status, or of no use any more."""
    useless = [job for job in seen.jobs if not job.deleting and _is_finished(seen, job, now)]
    if not useless:
        return None
    return Step(
        actions=tuple(DeleteJob(job.name, job.uid, job.is_job_set) for job in useless),
        events=tuple(event for job in useless if (event := _left_undone(seen, job))),
    )


def _left_undone(seen: Observation, job: ObservedJob) -> Event | None:
    """What a Job without a record in a status did not do, where it is still to be done."""
    if job.stage == "collect" and job.failed:
        message = f"Job {job.name} could not delete the files of generation {job.number}"
        return Event("CollectFailed", f"{message}: {why_failed(job)}; it is retried", "Warning")
    if job.stage == "tokenize" and not job.succeeded:
        generation = _generation(seen, job)
        if generation and generation.status.training and not _ended(generation):
            return not_tokenized(job)
    return None


def _is_finished(seen: Observation, job: ObservedJob, now: datetime) -> bool:
    if job.owner_uid != seen.update.metadata.uid:
        return False
    if job.stage == "probe":
        return consumed(seen, job)
    generation = _generation(seen, job)
    if job.stage == "collect" and generation is not None:
        return job.failed and now >= (job.finished or now) + COLLECT_AGAIN
    return generation is None or _recorded(generation, job)


def _generation(seen: Observation, job: ObservedJob) -> ModelGeneration | None:
    return next((g for g in seen.generations if g.spec.number == job.number), None)


def _recorded(generation: ModelGeneration, job: ObservedJob) -> bool:
    """Whether the result of a Job of this generation is in status, or no longer counts."""
    if unknown_value(generation):
        return False
    if _ended(generation):
        return True
    training, artifact = generation.status.training, generation.status.artifact
    if job.stage == "tokenize":  # the training tokenizes what is missing
        return training is not None or artifact is not None
    record = generation.status.evaluation if job.stage == "evaluate" else training
    if record is None:
        return False
    if job.stage in {"train", "import"} and artifact:
        return True
    return job.attempt < record.attempt or (job.attempt == record.attempt and not record.job)


def _ended(generation: ModelGeneration) -> bool:
    return finished(generation) or generation.status.verdict in {"Rejected", "Failed"}
