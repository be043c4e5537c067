"""Why nothing new starts and a running Job is suspended, and how that is done and undone.

spec.rollout.pin and spec.suspend suspend a Job. One in a queue is Kueue's to suspend: the operator
sets spec.active of its Workload, and activates only what it deactivated itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.jobs.gpu_budget import budget_used_up
from springtide_operator.lifecycle.queues.actions import ActivateWorkload, DeactivateWorkload
from springtide_operator.lifecycle.state.plan import Step, SuspendJob, Waiting

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedJob
    from springtide_operator.lifecycle.state.plan import Action


def suspension(seen: Observation, stage: str = "", *, purpose: str = "continue") -> Waiting | None:
    """Return what suspends an update, or None.

    Args:
        seen: the update.
        stage: the stage that waits.
        purpose: what the update does once spec.suspend is false.
    """
    if waiting := pin_waiting(seen, stage):
        return waiting
    if seen.update.spec.suspend:
        message = f"spec.suspend is true; set it to false to {purpose}"
        return Waiting("Suspended", message, stage)
    return None


def pin_waiting(seen: Observation, stage: str = "") -> Waiting | None:
    """Return that a generation is pinned, or None."""
    pinned, current = seen.lineage.pinned, seen.lineage.live
    if pinned is None or current is None:
        return None
    live = "the live generation" if pinned is current else f"live is {current.metadata.name}"
    message = (
        f"{pinned.metadata.name} is pinned ({live}); no run, probe or rollout starts before "
        f"{resumes_once(seen)}"
    )
    return Waiting("Pinned", message, stage, short=f"g{pinned.spec.number} is pinned")


def suspending(seen: Observation, job: ObservedJob) -> tuple[Action, ...]:
    """Return what suspends an unfinished Job; nothing where it is done."""
    if not job.queue:
        return () if job.suspended else (_suspend(job, suspend=True),)
    workload = seen.workload(job)
    if workload is None or not workload.active:
        return ()
    return (DeactivateWorkload(workload.name, workload.uid),)


def _suspend(job: ObservedJob, *, suspend: bool) -> SuspendJob:
    return SuspendJob(job.name, job.uid, suspend=suspend, is_job_set=job.is_job_set)


def resuming(seen: Observation, job: ObservedJob, stage: str, now: datetime) -> Step | None:
    """Resume a Job that the operator suspended, unless the GPU seconds of a day are used up."""
    if job.queue:
        return _activating(seen, job, stage, now)
    if not (job.suspended and job.suspended_by_us):
        return None
    waits = budget_used_up(seen, now, stage) if job.gpus else None
    return waits or Step(actions=(_suspend(job, suspend=False),))


def _activating(seen: Observation, job: ObservedJob, stage: str, now: datetime) -> Step | None:
    """The same for a Job in a queue; Kueue must not admit one that has no budget either."""
    workload = seen.workload(job)
    if workload is None:
        return None
    waits = budget_used_up(seen, now, stage) if job.gpus else None
    if workload.deactivated_by_us:
        return waits or Step(actions=(ActivateWorkload(workload.name, workload.uid, now),))
    if waits and job.suspended and workload.active and not workload.condition("Admitted"):
        return replace(waits, actions=(DeactivateWorkload(workload.name, workload.uid),))
    return None


def resumes_once(seen: Observation) -> str:
    """What must be true before a run or a probe may start; empty where neither field prevents it.

    A pin that is not possible prevents it, too.
    """
    causes = []
    if seen.update.spec.rollout.pin is not None:
        causes.append("spec.rollout.pin is removed")
    if seen.update.spec.suspend:
        causes.append("spec.suspend is false")
    return " and ".join(causes)
