"""Deletes Jobs whose outcome is in status."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.probing.probe_job import consumed
from springtide_operator.lifecycle.state.generations import finished, unknown_value
from springtide_operator.lifecycle.state.plan import DeleteJob, Event, Step

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedJob

COLLECT_AGAIN = timedelta(minutes=10)
"""A failed deletion in the storage is retried after this time: nothing waits for it."""


def delete_finished_jobs(seen: Observation, now: datetime) -> Step | None:
    """Delete Jobs whose outcome is in status."""
    useless = [job for job in seen.jobs if not job.deleting and _is_finished(seen, job, now)]
    if not useless:
        return None
    return Step(
        actions=tuple(DeleteJob(job.name, job.uid, job.is_job_set) for job in useless),
        events=tuple(
            _not_collected(job) for job in useless if job.stage == "collect" and job.failed
        ),
    )


def _not_collected(job: ObservedJob) -> Event:
    failure = job.result.failure if job.result else None
    why = failure.message if failure else job.failure or "see the log of its pod"
    message = f"Job {job.name} could not delete the files of generation {job.number}: {why}"
    return Event("CollectFailed", f"{message}; it is retried", "Warning")


def _is_finished(seen: Observation, job: ObservedJob, now: datetime) -> bool:
    if job.owner_uid != seen.update.metadata.uid:
        return False
    if job.stage == "probe":
        return consumed(seen, job)
    generation = next((g for g in seen.generations if g.spec.number == job.number), None)
    if job.stage == "collect" and generation is not None:
        return job.failed and now >= (job.finished or now) + COLLECT_AGAIN
    return generation is None or _recorded(generation, job)


def _recorded(generation: ModelGeneration, job: ObservedJob) -> bool:
    """Whether the result of a Job of this generation is in status, or no longer counts."""
    if unknown_value(generation):
        return False
    if finished(generation) or generation.status.verdict in {"Rejected", "Failed"}:
        return True
    record = generation.status.evaluation if job.stage == "evaluate" else generation.status.training
    if record is None:
        return False
    if job.stage in {"train", "import"} and generation.status.artifact:
        return True
    return job.attempt < record.attempt or (job.attempt == record.attempt and not record.job)
