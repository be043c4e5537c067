"""The outcome of one attempt at a stage, from its Job and pods.

The name of the attempt is written to status before the Job is created and its uid after it, so that
a crash in between never creates two Jobs for one attempt nor loses one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_api.contract import ExitCode, Failure
from springtide_operator.lifecycle.jobs.queueing import waits_since, why_in_queue
from springtide_operator.lifecycle.nodes.pods import failed_first, first_pod, newest_pods

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.contract import Result
    from springtide_api.generation.status import StageRun
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedJob, ObservedPod

FINAL = frozenset({ExitCode.INVALID_INPUT, ExitCode.TOO_LITTLE_DATA, ExitCode.DIVERGED})

GRACE = timedelta(seconds=20)
"""The end of a pod may be observed later than the end of its Job."""

DISRUPTION = "DisruptionTarget"
"""In the failure of a Job whose pod is gone: the condition that its failure policy met."""

_MORE_MEMORY = (
    "raise training.compute.resources.memory, or lower training.hyperparameters.batchSize or "
    "model.maxLength"
)

_MORE_MEMORY_FOR = {
    "import": "raise training.compute.importMemory",
    "evaluate": "raise training.compute.resources.memory, or lower model.maxLength",
}
"""Of a stage that batchSize does not change."""


@dataclass(frozen=True)
class JobNotCreated:
    """Recorded, but there is no Job yet: create it, under the same name."""


@dataclass(frozen=True)
class JobNotRecorded:
    """The Job exists and its uid is not in status yet."""

    job: ObservedJob


@dataclass(frozen=True)
class Running:
    """The Job is in progress."""

    job: ObservedJob
    waiting: str = ""
    """Why it does not run yet."""
    since: datetime | None = None
    """Since when it has been waiting."""


@dataclass(frozen=True)
class Succeeded:
    """The Job has a result."""

    job: ObservedJob
    result: Result


@dataclass(frozen=True)
class RetryableFailure:
    """The attempt failed; another one may succeed."""

    reason: str
    message: str
    counted: bool
    out_of_memory: bool = False
    at: datetime | None = None


@dataclass(frozen=True)
class PermanentFailure:
    """The attempt failed in a way that every other attempt would."""

    reason: str
    message: str


AttemptOutcome = (
    JobNotCreated | JobNotRecorded | Running | Succeeded | RetryableFailure | PermanentFailure
)


def attempt_outcome(
    seen: Observation, run: StageRun, now: datetime, nodes: int = 1
) -> AttemptOutcome:
    """Return the outcome of the recorded attempt, which runs on so many nodes."""
    job = seen.job(run.job)
    if job is None:
        if not run.job_uid:
            return JobNotCreated()
        named = f"{'JobSet' if nodes > 1 else 'Job'} {run.job}"
        return RetryableFailure(
            "JobDeleted", f"{named} was deleted by another client", counted=True
        )
    if job.deleting:
        return Running(job, waiting=f"{job.named} is being deleted")
    if not run.job_uid:
        return JobNotRecorded(job)
    if job.uid != run.job_uid:
        return RetryableFailure(
            "JobReplaced", f"{job.named} was replaced by another client", counted=True
        )
    return _of_job(seen, job, run, now)


def _of_job(seen: Observation, job: ObservedJob, run: StageRun, now: datetime) -> AttemptOutcome:
    if (
        job.result is not None
        and _is_complete_result(job, job.result)
        and (job.succeeded or _exited_well(job))
    ):
        return Succeeded(job, job.result)
    if job.succeeded:
        if result_may_arrive(job, now):
            return Running(job)
        message = f"{job.named} is complete but its result is missing or belongs to another Job"
        return RetryableFailure("ResultMissing", message, counted=True, at=job.finished)
    if job.failed or runs_on(job, now):
        return _failed(job, now)
    return Running(job, *why_pods_wait(seen, job, run))


def _is_complete_result(job: ObservedJob, result: Result) -> bool:
    """Whether a success holds the output of its stage, of exactly this generation."""
    outputs = {"import": result.imported, "train": result.train, "evaluate": result.evaluate}
    own = result.stage == job.stage and result.number in {job.number, None}
    return result.ok and own and outputs.get(job.stage, result) is not None


def _exited_well(job: ObservedJob) -> bool:
    return any(pod.exit_code == 0 and pod.index == 0 for pod in job.pods)


def result_may_arrive(job: ObservedJob, now: datetime) -> bool:
    """Whether the end of a finished Job's pod may still be observed: watches are not in step."""
    known = [first_pod(job.pods)] if job.succeeded else job.pods
    ended = any(pod is not None and pod.exit_code is not None for pod in known)
    return job.finished is not None and now - job.finished < GRACE and not ended


def runs_on(job: ObservedJob, now: datetime) -> bool:
    """Whether its trainer has failed, and its pod runs on with what others have added to it.

    Its Job does not fail then, as long as the proxy of a service mesh runs.
    """
    pod = failed_first(job.pods)
    if job.suspended or job.resuming or pod is None or pod.exit_code is None or pod.ended is None:
        return False
    earlier = job.resumed is not None and pod.ended < job.resumed  # of a Job that was suspended
    return pod.running and not earlier and now - pod.ended >= GRACE


def _failed(job: ObservedJob, now: datetime) -> AttemptOutcome:
    pod = failed_first(job.pods)
    at = job.finished or (pod.ended if pod else None)
    if _disrupted(job, pod):
        whose = f"pod {pod.name}" if pod else f"the pod of {job.named}"
        message = f"{whose} was disrupted (evicted or preempted)"
        return RetryableFailure("Disrupted", message, counted=False, at=at)
    if pod is not None and pod.reason:
        return RetryableFailure(pod.reason[:128], _ended_for(pod), counted=True, at=at)
    if pod is None or pod.exit_code is None:
        if result_may_arrive(job, now):
            return Running(job)
        message = job.failure or f"{job.named} failed and its pod is gone"
        return RetryableFailure("JobFailed", message, counted=True, at=at)
    if pod.out_of_memory or pod.exit_code == ExitCode.OUT_OF_MEMORY:
        hint = _MORE_MEMORY_FOR.get(job.stage, _MORE_MEMORY)
        message = f"pod {pod.name} ran out of memory; {hint}"
        return RetryableFailure("OutOfMemory", message, counted=True, out_of_memory=True, at=at)
    failure = _reported(job, pod)
    if pod.exit_code in FINAL:
        return PermanentFailure(failure.reason, format_failure(failure))
    return RetryableFailure(failure.reason, format_failure(failure), counted=True, at=at)


def _ended_for(pod: ObservedPod) -> str:
    """Why the kubelet or the control plane ended a pod: more specific than its exit code."""
    if pod.reason == "Evicted":
        return f"pod {pod.name} was evicted for exceeding its own limit: {pod.ended_for}"
    detail = f": {pod.ended_for}" if pod.ended_for else ""
    return f"pod {pod.name} failed with reason {pod.reason}{detail}"


def _disrupted(job: ObservedJob, pod: ObservedPod | None) -> bool:
    """Whether its pod was disrupted; an evicted one is deleted before its Job has failed."""
    return (pod is not None and pod.disrupted) or DISRUPTION in job.failure


def format_failure(failure: Failure) -> str:
    """A failure in a sentence that begins with the path of the field to change, if there is one."""
    path = failure.field.removeprefix("spec.")
    if not path or path in failure.message:
        return failure.message
    return f"spec.{path}: {failure.message}"


def _reported(job: ObservedJob, pod: ObservedPod) -> Failure:
    """The failure that the trainer reported, else that of the Job."""
    if job.result is not None and job.result.failure is not None:
        return job.result.failure
    detail = f"; {job.failure}" if job.failure else ""
    message = f"pod {pod.name} ended with exit code {pod.exit_code}{detail}; see its log"
    return Failure(reason=f"ExitCode{pod.exit_code}", message=message)


def why_failed(job: ObservedJob) -> str:
    """Return why a Job failed that has no record in a status."""
    pod = failed_first(job.pods)
    if pod is not None and pod.exit_code is not None:
        if pod.out_of_memory:
            return f"pod {pod.name} ran out of memory"
        return format_failure(_reported(job, pod))
    return job.failure or "its pods are gone"


def why_pods_wait(
    seen: Observation, job: ObservedJob, run: StageRun
) -> tuple[str, datetime | None]:
    """Return why not all pods of a Job run, and since when; empty: they run or start.

    Of pods that share rows one is enough: the others find what is left.
    """
    if job.queue and job.suspended:
        return why_in_queue(seen, job), waits_since(seen, job, run)
    if job.suspended_by_us:
        return "the Job is suspended", None
    if job.suspended:
        detail = f"{job.named} was suspended by another client; it continues once that resumes it"
        return detail, max(job.suspended_at or job.created, job.created)
    if job.resuming:
        return "", None  # its pods and their messages are from before
    pods = newest_pods(job.pods)
    late = [pod for pod in pods if not pod.running and pod.exit_code is None]
    if _enough_run(job, pods, late):
        return "", None
    pod = next((each for each in late if each.waiting), late[0] if late else None)
    detail, since = (pod.waiting, pod.created) if pod else (job.problem, job.created)
    if job.queue:
        return detail, waits_since(seen, job, run)
    return detail, max([since, job.resumed or since, *(each.ended for each in pods if each.ended)])


def _enough_run(job: ObservedJob, pods: list[ObservedPod], late: list[ObservedPod]) -> bool:
    """Whether the Job waits for none of its pods."""
    if job.shares_rows and any(pod.running for pod in pods):
        return True
    return not late and len(pods) >= job.nodes
