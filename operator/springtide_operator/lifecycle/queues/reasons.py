"""Why a Job in a queue does not run, in Kueue's own words.

The part before the colon is the reason of a condition; `jobs/pod_waiting.py` knows which of them
need a user.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from springtide_operator.lifecycle.queues.observed import ObservedKind, ObservedWorkload

NOT_LISTED = "Workloads of Kueue are not listed yet"

MISSING, UNREADABLE = "Kueue is missing", "Kueue cannot be read"
"""What stands before the colon where Workloads cannot be read."""

INADMISSIBLE, DEACTIVATED = "Inadmissible in Kueue", "Deactivated in Kueue"

FINISHED = "Finished in Kueue"
"""What stands before the colon where a user must act."""

NOT_CONSIDERED = "it was not considered for admission yet"


def why_unavailable(kueue: ObservedKind) -> str:
    """Return why Workloads cannot be read; empty: they can."""
    if not kueue.unavailable:
        return ""
    return f"{UNREADABLE if kueue.served else MISSING}: {kueue.unavailable}"


def why_queued(kueue: ObservedKind, workload: ObservedWorkload | None, job: str) -> str:
    """Return why Kueue keeps a Job suspended.

    Args:
        kueue: whether Workloads can be read.
        workload: that of the Job; None: there is none.
        job: kind and name of what waits.
    """
    if why := why_unavailable(kueue):
        return why
    if not kueue.listed:
        return NOT_LISTED
    if workload is None:
        return (
            f"No Workload in Kueue: it has created none for {job} yet; it must run, and manage "
            "Jobs of this namespace"
        )
    if finished := workload.condition("Finished"):
        return f"{FINISHED}: {finished.reason}: {finished.message}"
    if not workload.active:
        return _inactive(workload)
    if workload.condition("Evicted"):
        return _evicted(workload)
    if admitted := workload.condition("Admitted"):
        return f"Admitted in Kueue: {admitted.message}; {job} is resumed next"
    return _reserving(workload)


def _inactive(workload: ObservedWorkload) -> str:
    evicted = workload.condition("Evicted")
    known = evicted.message if evicted and evicted.reason == "Deactivated" else ""
    return f"{DEACTIVATED}: Workload {workload.name}: {known or 'spec.active is false'}"


def _evicted(workload: ObservedWorkload) -> str:
    """Say why it was evicted, and what it waits for since."""
    quota, evicted = workload.conditions.get("QuotaReserved"), workload.conditions["Evicted"]
    waits = quota.message if quota and not quota.true else ""
    if quota and quota.reason == "Inadmissible":
        return f"{INADMISSIBLE}: {waits}"
    since = waits if waits != evicted.message else ""
    if evicted.reason == "Deactivated":  # and active again
        return f"Pending in Kueue: {since or NOT_CONSIDERED}"
    parts = [evicted.message, since]
    if workload.requeue_at:
        parts.insert(1, f"it is requeued at {workload.requeue_at:%H:%M:%S} UTC")
    return f"{evicted.reason} in Kueue: {'; '.join(filter(None, parts))}"


def _reserving(workload: ObservedWorkload) -> str:
    quota = workload.conditions.get("QuotaReserved")
    if quota is None:
        return f"Pending in Kueue: {NOT_CONSIDERED}"
    checks = workload.checks if quota.true else ()
    return f"{quota.reason} in Kueue: {'; '.join((quota.message, *checks))}"
