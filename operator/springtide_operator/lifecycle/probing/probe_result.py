"""Consumes the result of a probe: a run starts, or a waiting candidate gets a longer holdout.

A probe counts once: it is consumed when `status.lastProbe` names it, and deleted only after that.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_api.names import ANNOTATION_PROBE
from springtide_api.update.status import LastProbe
from springtide_operator.lifecycle.jobs.attempt_outcome import (
    GRACE,
    format_failure,
    result_may_arrive,
    runs_on,
    why_failed,
)
from springtide_operator.lifecycle.jobs.pod_waiting import queued
from springtide_operator.lifecycle.jobs.queueing import why_in_queue
from springtide_operator.lifecycle.nodes.pods import failed_first
from springtide_operator.lifecycle.probing.gaps import quarantine_gaps
from springtide_operator.lifecycle.probing.holdout_extension import extend_holdout, no_run
from springtide_operator.lifecycle.probing.probe_job import consumed, probed_recipe
from springtide_operator.lifecycle.probing.run_start import run_started, start_run
from springtide_operator.lifecycle.state.plan import DeleteJob, Event, Step, Waiting
from springtide_operator.lifecycle.state.recipe import (
    excluded_generations,
    probe_digest,
    recipe,
)

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    from springtide_api.contract import ProbeOutput
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedJob

CANNOT_RUN = timedelta(minutes=15)
"""A probe whose pod is known not to run fails after this time."""

STARTING = timedelta(hours=1)
"""And any other whose pod does not run, such as one that pulls a large image."""

_SMALLER_PARTS = (
    "a probe has 2 GiB: write Parquet files with smaller row groups, or lower data.window.maxRows"
)


def consume_probe(seen: Observation, now: datetime) -> Step | None:
    """Wait for the probe in progress, and consume its result."""
    uid = seen.update.metadata.uid
    probes = [j for j in seen.jobs if j.stage == "probe" and j.owner_uid == uid and not j.deleting]
    fresh = [job for job in probes if not consumed(seen, job)]
    if not fresh:
        return None
    # Of two in one second the repeated one knows more of the quarantine.
    job = min(fresh, key=lambda each: (each.created, len(each.quarantined)))
    outdated = seen.update.spec.suspend or _spec_changed(seen, job)
    if (outdated and seen.lineage.candidate is None) or _must_not_count(seen, job):
        return _discard(job, "the spec", "SpecChanged")
    if job.result is not None and job.result.probe is not None and job.result.ok:
        return _probe_succeeded(seen, job, job.result.probe, now)
    if job.succeeded or job.failed or runs_on(job, now):
        if result_may_arrive(job, now):
            return Step(waiting=Waiting("Probing", "", "Probe"), wake_after=GRACE)
        return _probe_failed(seen, job, now)
    why = job.problem or next((pod.waiting for pod in job.pods if not pod.running), "")
    if job.queue and job.suspended:  # by a default queue of the namespace
        why = why_in_queue(seen, job)
    if never_ran := _pod_never_ran(seen, job, why, now):
        return never_ran
    looking = Waiting("Probing", "", "Probe", short="probing for data")
    waiting = queued(why, "Probe") if why else looking
    return Step(waiting=waiting, wake_after=timedelta(seconds=30))


def _pod_never_ran(seen: Observation, job: ObservedJob, why: str, now: datetime) -> Step | None:
    """Fail a probe whose pod does not run: others wait for its slot."""
    if any(pod.running or pod.exit_code is not None for pod in job.pods):
        return None
    patience = CANNOT_RUN if why else STARTING
    if now - max(job.created, job.resumed or job.created) < patience:
        return None
    minutes = round(patience.total_seconds() / 60)
    message = f"no pod of Job {job.name} ran within {minutes} minutes"
    if why:
        message += f": {why[:800]}"
    return _failure(seen, job, "ProbeNeverRan", message, now=now)


def _spec_changed(seen: Observation, job: ObservedJob) -> bool:
    """Whether the spec changed in what this probe depends on, since it began.

    An earlier version recorded only metadata.generation of the spec.
    """
    if job.probed:
        return job.probed != probe_digest(recipe(seen))
    return job.spec_generation != seen.update.metadata.generation


def _must_not_count(seen: Observation, job: ObservedJob) -> bool:
    """Whether a generation is pinned, and the probe led to no run yet: none starts meanwhile."""
    return seen.lineage.pinned is not None and _run_of(seen, job) is None


def _run_of(seen: Observation, job: ObservedJob) -> ModelGeneration | None:
    """The generation whose data this probe found."""
    probed = ((g, g.metadata.annotations.get(ANNOTATION_PROBE)) for g in seen.generations)
    return next((generation for generation, uid in probed if uid == job.uid), None)


def _discard(job: ObservedJob, what: str, reason: str) -> Step:
    """Discard a probe after a change: its window is outdated."""
    events: tuple[Event, ...] = ()
    if job.request:
        message = f"{what} changed while {job.request} probed; request it again with a new token"
        events = (Event(reason, message, "Warning"),)
    return Step(actions=(DeleteJob(job.name, job.uid),), events=events)


def _probe_failed(seen: Observation, job: ObservedJob, now: datetime) -> Step:
    failure, pod = job.result.failure if job.result else None, failed_first(job.pods)
    if failure:
        reason, message = failure.reason, format_failure(failure)
    elif pod is not None and pod.out_of_memory:
        reason, message = "OutOfMemory", f"{why_failed(job)}; {_SMALLER_PARTS}"
    else:
        reason, message = "ProbeFailed", why_failed(job)
    return _failure(seen, job, reason, message, now=now)


def _failure(
    seen: Observation, job: ObservedJob, reason: str, message: str, *, now: datetime
) -> Step:
    """Count a failed probe; the next one by interval comes later."""
    last = seen.update.status.last_probe
    record = LastProbe(
        finished_at=min(job.finished or now, now),
        job=job.name,
        job_uid=job.uid,
        reason=reason,
        message=message[:1024],
        failures=(last.failures if last else 0) + 1,
    )
    event = Event(reason, message[:1024], "Warning")
    return Step(facts={"last_probe": record}, events=(event,))


def _probe_succeeded(
    seen: Observation, job: ObservedJob, found: ProbeOutput, now: datetime
) -> Step:
    facts: dict[str, Any] = {
        "last_probe": LastProbe(
            finished_at=min(job.finished or now, now),
            job=job.name,
            job_uid=job.uid,
            reason=found.reason,
            message=found.message[:1024],
        ),
        "cursor": seen.update.status.cursor.model_copy(
            update={
                "pending_rows": found.pending_rows,
                "newest_partition": found.newest_partition,
            }
        ),
    }
    if (step := quarantine_gaps(seen, job, found.gaps, facts, now)) is not None:
        return step
    if found.window is None:
        return Step(facts=facts)
    if (run := _run_of(seen, job)) is not None:
        # The operator stopped between creating it and writing these facts, maybe long ago.
        name, decided = run.metadata.name, run.spec.continuation
        return run_started(seen, name, found.window, facts, continuing=decided)
    if (discarded := _other_rows_now(seen, job)) is not None:
        return discarded
    if job.cursor != seen.lineage.cursor:
        return Step(facts=facts)
    if job.excluded and found.window.excluded_rows is None:
        return no_run(job, facts, "RowsNotExcluded", _rows_not_excluded(job))
    waiting = seen.lineage.candidate
    if waiting is None:
        return start_run(seen, job, found.window, facts)
    return extend_holdout(seen, waiting, job, found.window, facts)


def _other_rows_now(seen: Observation, job: ObservedJob) -> Step | None:
    """Discard a probe that began before a quarantine, a release or a rollback."""
    if job.quarantined != frozenset(seen.update.status.cursor.quarantined):
        return _discard(job, "the quarantine", "QuarantineChanged")
    if job.excluded != frozenset(excluded_generations(seen, probed_recipe(seen))):
        what = "the set of generations that were rolled back"
        return _discard(job, what, "ExcludedGenerationsChanged")
    return None


def _rows_not_excluded(job: ObservedJob) -> str:
    served = ", ".join(f"g{number}" for number in sorted(job.excluded))
    return (
        f"image {job.image} does not know data.source.columns.servedGeneration, so the window may "
        f"have rows that {served} served before the rollback; use a trainer image of this version"
    )
