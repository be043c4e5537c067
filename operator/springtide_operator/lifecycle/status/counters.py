"""Counters of an update: sums over all generations, deleted ones included."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.jobs.gpu_seconds import gpu_seconds
from springtide_operator.lifecycle.status.generation_status import outcome

if TYPE_CHECKING:
    from springtide_api.objects import ModelGeneration
    from springtide_api.update.status import HistoryEntry
    from springtide_operator.lifecycle.state.observation import Observation

PROMOTED = frozenset({"Live", "Superseded"})
"""Outcomes of generations that were promoted."""


def totals(seen: Observation) -> object:
    """Sums over all generations, deleted ones included."""
    counters = seen.update.status.counters
    promoted, back, rejected, failed = _ended_since(seen)
    if counters.promoted and not any(entry.outcome for entry in seen.update.status.history):
        promoted = 0  # an earlier version counted them, and wrote no outcome
    return counters.model_copy(
        update={
            "promoted": counters.promoted + promoted,
            "rolled_back": counters.rolled_back + back,
            "rejected": counters.rejected + rejected,
            "failed": counters.failed + failed,
            "gpu_seconds": counters.gpu_seconds + _gpu_seconds_since(seen),
        }
    )


def _gpu_seconds_since(seen: Observation) -> int:
    """GPU seconds since the history was written, as `_ended_since` counts."""
    status = seen.update.status
    counted = {entry.number: entry.gpu_seconds for entry in status.history}
    newest = max(counted, default=-1)
    known = [g for g in seen.generations if g.spec.number in counted or g.spec.number > newest]
    if counted and all(each is None for each in counted.values()):
        # An earlier version counted the sum of those that are there, and did not record it.
        return max(sum(map(gpu_seconds, known)) - status.counters.gpu_seconds, 0)
    return sum(max(gpu_seconds(g) - (counted.get(g.spec.number) or 0), 0) for g in known)


def _counted(before: HistoryEntry | None, generation: ModelGeneration) -> bool:
    """Whether its promotion was counted: the history has shown it live, or on its way back."""
    if before is None:
        return False
    back = {"RolledBack"}
    if generation.status.rollout.rollback_reason:
        back.add("RolloutFailed")  # else it was rolled out again, and promoted once more
    return before.outcome in PROMOTED or before.reason in back


def _ended_since(seen: Observation) -> tuple[int, int, int, int]:
    """How many were promoted, rolled back, rejected or failed since the history was written.

    A generation below the newest that the history does not name was counted long ago.
    """
    known = {entry.number: entry for entry in seen.update.status.history}
    newest = max(known, default=-1)
    promoted = back = rejected = failed = 0
    for generation in seen.generations:
        number, status = generation.spec.number, generation.status
        before = known.get(number)
        if before is None and number <= newest:
            continue
        trained, current = generation.spec.origin == "Trained", outcome(seen, generation)
        verdict, earlier = (before.verdict, before.outcome) if before else ("", "")
        promoted += (
            trained and status.rollout.promoted_at is not None and not _counted(before, generation)
        )
        back += current == "RolledBack" and earlier != "RolledBack"
        rejected += trained and status.verdict == "Rejected" and verdict != "Rejected"
        failed += trained and status.verdict == "Failed" and verdict != "Failed"
    return promoted, back, rejected, failed
