"""Requests about partitions: quarantine, release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.requests.request import Response, busy
from springtide_operator.lifecycle.state.quarantine_records import MAX_QUARANTINED, write_record

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation


def quarantine(seen: Observation, now: datetime) -> Response:
    """Quarantine the proposed partitions."""
    cursor, wanted = seen.update.status.cursor, seen.lineage.proposed_for_quarantine
    if not wanted:
        return Response(
            False, "no partition is proposed (status.cursor.proposedForQuarantine is empty)"
        )
    quarantined = sorted({*cursor.quarantined, *wanted})
    if len(quarantined) > MAX_QUARANTINED:
        room = cursor.quarantined and len(wanted) <= MAX_QUARANTINED
        message = (
            f"{len(quarantined)} partitions would be quarantined ({len(cursor.quarantined)} are), "
            f"and at most {MAX_QUARANTINED} can be; use {'release first' if room else 'reject'}"
        )
        return Response(False, message)
    facts = {"cursor": cursor.model_copy(update={"quarantined": quarantined})}
    message = f"quarantined: {', '.join(wanted)}"
    return Response(
        True, message, write_record(seen, quarantined, seen.lineage.training_only, now), facts
    )


def release(seen: Observation, now: datetime) -> Response:
    """Release all quarantined partitions."""
    cursor = seen.update.status.cursor
    if not cursor.quarantined:
        return Response(False, "nothing is quarantined (status.cursor.quarantined is empty)")
    if why := busy(seen):
        return Response(False, why)
    joining = sorted({*seen.lineage.training_only, *cursor.quarantined})
    if len(joining) > MAX_QUARANTINED:
        message = (
            f"{len(joining)} partitions would be released and not trained on yet, and at most "
            f"{MAX_QUARANTINED} can be; wait until a generation that was trained on them is live"
        )
        return Response(False, message)
    facts = {"cursor": cursor.model_copy(update={"quarantined": [], "released": joining})}
    message = f"released: {', '.join(cursor.quarantined)}; their rows join the next window"
    return Response(True, message, write_record(seen, [], joining, now), facts)
