"""Why no training can run on several nodes: the kind JobSet, or the right to read it, is missing.

The part before the colon is the cause that `jobs/pod_waiting.py` knows a remedy for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from springtide_operator.lifecycle.queues.observed import ObservedKind

NOT_LISTED = "JobSets are not listed yet"

MISSING, UNREADABLE = "JobSet is missing", "JobSets cannot be read"
"""What stands before the colon where JobSets cannot be read."""


def why_unavailable(job_sets: ObservedKind) -> str:
    """Return why JobSets cannot be read; empty: they can."""
    if not job_sets.unavailable:
        return ""
    return f"{UNREADABLE if job_sets.served else MISSING}: {job_sets.unavailable}"
