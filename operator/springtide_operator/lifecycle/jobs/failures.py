"""After a failure: the back-off, the record of the attempt, and a failed generation."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.state.plan import Event, Step, WriteGeneration

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.generation.status import StageRun
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.jobs.attempt_outcome import RetryableFailure

BACK_OFF = timedelta(seconds=10)

MAX_BACK_OFF = timedelta(minutes=5)


def backoff(failure: int) -> timedelta:
    """How long to wait before the attempt that follows this many failures of a kind."""
    return (
        min(BACK_OFF * 2 ** min(max(failure - 1, 0), 9), MAX_BACK_OFF) if failure else timedelta(0)
    )


def record_failure(run: StageRun, failure: RetryableFailure, counted: int) -> StageRun:
    """The record after a failed attempt, with smaller batches if memory ran out."""
    changes: dict[str, object] = {
        "failed_attempts": counted,
        "last_failure": failure.message[:1024],
    }
    if failure.out_of_memory and hasattr(run, "batch_divisor"):
        divisor = run.batch_divisor * 2
        changes["batch_divisor"] = divisor
        if hasattr(run, "adjustments"):
            changes["adjustments"] = [
                *run.adjustments,
                f"batches of 1/{divisor} of batchSize after running out of memory",
            ][-8:]
    return run.model_copy(update=changes)


def fail_generation(generation: ModelGeneration, reason: str, message: str, now: datetime) -> Step:
    """End a generation: its verdict is Failed, live is not affected."""
    status = generation.status.model_copy(
        update={
            "verdict": "Failed",
            "reason": reason,
            "message": message[:1024],
            "verdict_at": now,
        }
    )
    name = generation.metadata.name
    event = Event("Failed", f"{name}: {reason}: {message}", "Warning", generation=name)
    return Step(actions=(WriteGeneration(name, status),), events=(event,))
