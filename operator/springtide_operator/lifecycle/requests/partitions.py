"""Requests about partitions: quarantine, release."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.requests.request import Response, acknowledge, busy
from springtide_operator.lifecycle.state.quarantine_records import (
    MAX_QUARANTINED,
    full_quarantine,
    write_record,
)
from springtide_operator.lifecycle.state.rejections import rollback_hold_name

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from typing import Any

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation


def quarantine(seen: Observation, now: datetime) -> Response:
    """Quarantine the proposed partitions."""
    cursor, wanted = seen.update.status.cursor, seen.lineage.proposed_for_quarantine
    if not wanted:
        return Response(
            False, "no partition is proposed (status.cursor.proposedForQuarantine is empty)"
        )
    quarantined = sorted({*cursor.quarantined, *wanted})
    if full := full_quarantine(cursor, wanted):
        room = cursor.quarantined and len(wanted) <= MAX_QUARANTINED
        otherwise = "retry" if seen.lineage.rolled_back else "reject"
        return Response(False, f"{full}; use {'release first' if room else otherwise}")
    facts: dict[str, Any] = {"cursor": cursor.model_copy(update={"quarantined": quarantined})}
    # Else the hold would come back with a release.
    facts |= acknowledge(seen, *map(rollback_hold_name, _left_out(seen, quarantined)))
    message = f"quarantined: {', '.join(wanted)}"
    return Response(
        True, message, write_record(seen, quarantined, seen.lineage.training_only, now), facts
    )


def _left_out(seen: Observation, quarantined: Iterable[str]) -> list[ModelGeneration]:
    """Generations that were rolled back and all of whose rows are in quarantine."""
    names = {*quarantined}
    return [
        g for g in seen.lineage.rolled_back if g.spec.data and names >= {*g.spec.data.partitions}
    ]


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
