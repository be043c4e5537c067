"""Quarantined and released partitions, recorded with their times in a generation.

The record is part of the status of the generation with the highest number and is written before the
update's own status, so that an update restored from Git takes it over, releases included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.generation.status import QuarantineRecord
from springtide_operator.lifecycle.state.generations import unknown_value
from springtide_operator.lifecycle.state.plan import WriteGeneration

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_api.update.status import Cursor
    from springtide_operator.lifecycle.state.observation import Observation

MAX_QUARANTINED = 16
"""Partitions that may be quarantined, and that may be released and not trained on yet."""


def full_quarantine(cursor: Cursor, wanted: Collection[str]) -> str:
    """Why no more partitions can be quarantined; empty if they can."""
    count = len({*cursor.quarantined, *wanted})
    if count <= MAX_QUARANTINED:
        return ""
    return (
        f"{count} partitions would be quarantined ({len(cursor.quarantined)} are), and at most "
        f"{MAX_QUARANTINED} can be"
    )


def latest_record(seen: Observation) -> ModelGeneration | None:
    """The generation that holds the newest record: not always the highest number.

    A generation of another version is not changed; the record goes to an earlier one.
    """
    known = (g for g in seen.generations if g.status.quarantine_records)
    return max(known, key=lambda g: (_written(g), g.spec.number), default=None)


def record_owner(seen: Observation) -> ModelGeneration | None:
    """The generation that the next record is written to."""
    own = (g for g in seen.generations if not unknown_value(g))
    return max(own, key=lambda g: g.spec.number, default=None)


def _written(generation: ModelGeneration) -> datetime:
    """When a record was written: each write quarantines or releases a partition."""
    return max(
        each.released_at or each.quarantined_at for each in generation.status.quarantine_records
    )


def write_record(
    seen: Observation, quarantined: Collection[str], released: Collection[str], now: datetime
) -> tuple[WriteGeneration, ...]:
    """Write the quarantine to the generation that records it.

    Args:
        seen: the update.
        quarantined: partitions that will be in quarantine.
        released: partitions that were, and that no promoted generation was trained on yet.
        now: the moment.
    """
    newest = record_owner(seen)
    if newest is None:
        return ()
    entries = _entries(seen, quarantined, released, now)
    if entries == newest.status.quarantine_records:
        return ()
    status = newest.status.model_copy(update={"quarantine_records": entries})
    return (WriteGeneration(newest.metadata.name, status),)


def preserve_record(
    seen: Observation, generation: ModelGeneration, now: datetime
) -> tuple[WriteGeneration, ...]:
    """Copy the record of a generation that will be deleted to the newest one."""
    last = latest_record(seen)
    if last is None or last.metadata.name != generation.metadata.name:
        return ()
    return write_record(
        seen, seen.update.status.cursor.quarantined, seen.lineage.training_only, now
    )


def _entries(
    seen: Observation, quarantined: Collection[str], released: Collection[str], now: datetime
) -> list[QuarantineRecord]:
    last = latest_record(seen)
    known = {each.partition: each for each in last.status.quarantine_records} if last else {}
    entries = []
    for name in sorted({*quarantined, *released}):
        entry = known.get(name) or QuarantineRecord(partition=name, quarantined_at=now)
        if name in quarantined and entry.released_at is not None:
            entry = QuarantineRecord(partition=name, quarantined_at=now)
        if name not in quarantined and entry.released_at is None:
            entry = entry.model_copy(update={"released_at": now})
        entries.append(entry)
    return entries


def restored_cursor(seen: Observation) -> Cursor | None:
    """The cursor of an update without history, with the recorded quarantine; None: unchanged."""
    status, last = seen.update.status, latest_record(seen)
    if status.last_probe is not None or status.cursor.quarantined or status.cursor.released:
        return None
    if last is None:
        quarantined, released = _of_promotion(seen), set[str]()
    else:
        quarantined = {
            each.partition for each in last.status.quarantine_records if each.released_at is None
        }
        released = {each.partition for each in last.status.quarantine_records} - quarantined
    promoted = seen.lineage.promoted
    trained = {name for g in promoted if g.spec.data for name in g.spec.data.partitions}
    changes = {"quarantined": sorted(quarantined), "released": sorted(released - trained)}
    cursor = status.cursor.model_copy(update=changes)
    return None if cursor == status.cursor else cursor


def _of_promotion(seen: Observation) -> set[str]:
    """Partitions quarantined at the promotion of live, where nothing was recorded."""
    current = seen.lineage.live
    return {*current.status.quarantined[:MAX_QUARANTINED]} if current else set()
