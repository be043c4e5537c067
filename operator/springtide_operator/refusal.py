"""The status of an update that cannot be worked on until a person acts: what, where, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from springtide_api.update_status import Condition, UpdateStatus

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.update_status import Phase


def refused(
    raw: dict[str, Any], reason: str, message: str, now: datetime, *, phase: Phase = "Invalid"
) -> UpdateStatus:
    """Return the status as it was, with Ready False and Stalled.

    Args:
        raw: the update as the API server holds it; it need not fit its type.
        reason: one word.
        message: a sentence.
        now: the API server's time.
        phase: what stands in the column of that name.
    """
    try:
        old = UpdateStatus.model_validate(raw.get("status") or {})
    except ValidationError:
        old = UpdateStatus()
    generation = raw["metadata"].get("generation", 0)
    kept = [each for each in old.conditions if each.type not in {"Ready", "Stalled"}]
    said = [
        _condition(old, type_, status, reason, message=message, generation=generation, now=now)
        for type_, status in (("Ready", "False"), ("Stalled", "True"))
    ]
    return old.model_copy(
        update={
            "observed_generation": generation,
            "phase": phase,
            "conditions": [said[0], *kept, said[1]],
        }
    )


def _condition(
    old: UpdateStatus,
    type_: str,
    status: Any,
    reason: str,
    *,
    message: str,
    generation: int,
    now: datetime,
) -> Condition:
    before = next((each for each in old.conditions if each.type == type_), None)
    since = before.last_transition_time if before and before.status == status else now
    return Condition(
        type=type_,
        status=status,
        reason=reason,
        message=message[:1024],
        observed_generation=generation,
        last_transition_time=since,
    )
