"""What a Job needs beside Kubernetes, JobSet and Kueue; why it waits in a queue, and since when.

Kueue alone suspends and resumes a Job in a queue. Waiting counts from the Job's creation, from the
end of its last pod or from when the operator activated it again; an admission without a running pod
does not end it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.jobs.pod_waiting import queued
from springtide_operator.lifecycle.nodes import reasons as of_nodes
from springtide_operator.lifecycle.queues.reasons import NOT_LISTED, why_queued, why_unavailable
from springtide_operator.lifecycle.state.plan import RECHECK, Event, Step

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.generation.status import StageRun
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedJob
    from springtide_operator.lifecycle.state.plan import StartJob, Waiting


LISTED_SOON = timedelta(seconds=2)
"""How soon to decide again while a watch begins."""


def kueue_problem(seen: Observation) -> Waiting | None:
    """Return why the queue of the spec, or of a Job, cannot be used: Kueue must be installed."""
    why = why_unavailable(seen.kueue)
    if not why:
        return None
    own = (job for job in seen.jobs if job.owner_uid == seen.update.metadata.uid)
    in_a_queue = any(job.queue and not (job.succeeded or job.failed) for job in own)
    named = seen.update.spec.training.compute.queue_name
    return queued(why, "") if named or in_a_queue else None


def job_sets_problem(seen: Observation) -> Waiting | None:
    """Return why the spec, or a training, cannot have several nodes: JobSet must be installed."""
    why = of_nodes.why_unavailable(seen.job_sets)
    needed = seen.update.spec.training.compute.nodes > 1
    return queued(why, "") if why and needed else None


def cannot_read(seen: Observation, nodes: int, stage: str) -> Step | None:
    """Return that a training on several nodes waits: nothing is known of its JobSet.

    Args:
        seen: the update.
        nodes: pods that train together.
        stage: the stage that waits, for the column.
    """
    if nodes == 1:
        return None
    if why := of_nodes.why_unavailable(seen.job_sets):
        return Step(waiting=queued(why, stage), wake_after=RECHECK)
    if not seen.job_sets.listed:
        return Step(waiting=queued(of_nodes.NOT_LISTED, stage), wake_after=LISTED_SOON)
    return None


def cannot_queue(seen: Observation, start: StartJob, stage: str) -> Step | None:
    """Return that a Job is not created: it would be suspended, and nothing would resume it.

    Args:
        seen: the update.
        start: the Job.
        stage: the stage that waits, for the column.
    """
    if start.placement is None or start.placement.queue_name is None:
        return None
    if why := why_unavailable(seen.kueue):
        return Step(waiting=queued(why, stage), wake_after=RECHECK)
    if not seen.kueue.listed:
        return Step(waiting=queued(NOT_LISTED, stage), wake_after=LISTED_SOON)
    return None


def why_in_queue(seen: Observation, job: ObservedJob) -> str:
    """Return why a suspended Job in a queue does not run."""
    return why_queued(seen.kueue, seen.workload(job), job.named)


def waits_since(seen: Observation, job: ObservedJob, run: StageRun) -> datetime | None:
    """Return since when a Job in a queue waits for a pod that runs.

    None: it is not known, or the pod of the last admission still saves its checkpoint.
    """
    ends = [pod.ended_at for pod in run.pods]
    if seen.kueue.unavailable or not seen.kueue.listed or None in ends:
        return None
    workload = seen.workload(job)
    times = [workload.created, workload.resumed] if workload else []
    return max([job.created, *filter(None, [*ends, *times])])


def eviction(
    seen: Observation, job: ObservedJob, waiting: Waiting, generation: str
) -> tuple[Event, ...]:
    """Return the Event of a Job whose place Kueue has taken, on its own account.

    Until the status has Kueue's words: the watches of Jobs and of Workloads are two, so what ended
    the pods is often known later than their end.
    """
    workload = seen.workload(job)
    evicted = workload.condition("Evicted") if workload else None
    if workload is None or evicted is None or not job.suspended:
        return ()
    by_us = workload.deactivated_by_us or (evicted.reason == "Deactivated" and workload.active)
    if by_us or seen.update.status.progress.waiting_for == waiting.message[:1024]:
        return ()
    message = f"{job.named}: {evicted.reason}: {evicted.message}"
    return (Event("SuspendedByKueue", message[:1024], generation=generation),)
