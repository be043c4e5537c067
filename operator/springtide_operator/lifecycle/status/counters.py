"""Counters of an update: sums over all generations, deleted ones included."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.status.generation_status import outcome

if TYPE_CHECKING:
    from springtide_operator.lifecycle.state.observation import Observation

PROMOTED = frozenset({"Live", "Superseded"})
"""Outcomes of generations that were promoted."""


def totals(seen: Observation) -> object:
    """Sums over all generations, deleted ones included."""
    counters = seen.update.status.counters
    promoted, back, rejected, failed = _ended_since(seen)
    if counters.promoted and not any(entry.outcome for entry in seen.update.status.history):
        promoted = 0  # an earlier version counted them, and wrote no outcome
    runs = [run for g in seen.generations for run in (g.status.training, g.status.evaluation)]
    gpu = sum(run.gpu_seconds for run in runs if run)
    return counters.model_copy(
        update={
            "promoted": counters.promoted + promoted,
            "rolled_back": counters.rolled_back + back,
            "rejected": counters.rejected + rejected,
            "failed": counters.failed + failed,
            "gpu_seconds": max(counters.gpu_seconds, gpu),
        }
    )


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
        promoted += trained and current in PROMOTED and earlier not in PROMOTED
        back += current == "RolledBack" and earlier != "RolledBack"
        rejected += trained and status.verdict == "Rejected" and verdict != "Rejected"
        failed += trained and status.verdict == "Failed" and verdict != "Failed"
    return promoted, back, rejected, failed
