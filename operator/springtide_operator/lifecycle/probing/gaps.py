"""Partitions that were due and not delivered: quarantined by name once maxGap is over.

Otherwise the cursor would pass them silently. The window that the probe found is discarded: a probe
that knows the new quarantine starts at once, for the same request.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.evaluation.holds import QUARANTINE_FULL
from springtide_operator.lifecycle.jobs.suspension import suspension
from springtide_operator.lifecycle.probing.probe_job import probe_again
from springtide_operator.lifecycle.state.plan import Event, Step, WriteGeneration, subject
from springtide_operator.lifecycle.state.quarantine_records import record_owner, write_record

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from typing import Any

    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedJob
    from springtide_operator.lifecycle.state.plan import Action

MAX_QUARANTINED = 16
"""Partitions that a status holds; more are refused, never dropped."""


def quarantine_gaps(
    seen: Observation, job: ObservedJob, gaps: Iterable[str], facts: dict[str, Any], now: datetime
) -> Step | None:
    """Quarantine the gaps that a probe reported, and probe again.

    None where there is nothing new, or where quarantine or cursor changed since the probe began.

    Args:
        seen: The update.
        job: The probe.
        gaps: The partitions that it reported as not delivered.
        facts: Cursor and pending rows of the probe: written in the same status.
        now: The moment.
    """
    cursor = facts["cursor"]
    new = sorted({*gaps} - {*cursor.quarantined})
    if not new or (job.quarantined, job.cursor) != (
        frozenset(cursor.quarantined),
        seen.lineage.cursor,
    ):
        return None
    quarantined = sorted({*cursor.quarantined, *new})
    newest = record_owner(seen)
    kept = sorted({*(newest.status.quarantined if newest else []), *new})
    named = new[0] if len(new) == 1 else f"{new[0]} to {new[-1]} ({len(new)} partitions)"
    if max(len(quarantined), len(kept)) > MAX_QUARANTINED:
        message = (
            f"{named} were due and not delivered, and at most {MAX_QUARANTINED} partitions can be "
            f"quarantined ({len(cursor.quarantined)} are); deliver them, as empty folders "
            "if they have no rows, or start after them with model.initial.trainedThrough of a new "
            "update"
        )
        return _stopped(facts, message)
    message = (
        f"not delivered within {seen.update.spec.data.window.max_gap} (data.window.maxGap): {named}"
        ", quarantined; once it is delivered, springtide.dev/request=release@<token> adds it "
        "to the training data"
    )
    after = {**facts, "cursor": cursor.model_copy(update={"quarantined": quarantined})}
    actions: list[Action] = []
    if newest:
        written = write_record(seen, quarantined, seen.lineage.training_only, now)
        status = next((w.status for w in written if w.name == newest.metadata.name), newest.status)
        status = status.model_copy(update={"quarantined": kept})
        if status != newest.status:
            actions.append(WriteGeneration(newest.metadata.name, status))
    if not suspension(seen):
        again = probe_again(_as_of(seen, after), job, now)
        refusal = seen.refusal(subject(again))
        if refusal is None or not refusal.is_pending(now):
            actions.append(again)
        elif _asked_for(seen, job):
            after["last_request"] = None  # handled again, once this probe's Job is deleted
    event = Event("PartitionMissing", message[:1024], "Warning")
    return Step(actions=tuple(actions), facts=after, events=(event,))


def _asked_for(seen: Observation, job: ObservedJob) -> bool:
    """Whether a probe is for the request that was handled last."""
    last = seen.update.status.last_request
    return last is not None and job.request == f"{last.verb}@{last.token}"


def _stopped(facts: dict[str, Any], message: str) -> Step:
    last = facts["last_probe"].model_copy(
        update={"reason": QUARANTINE_FULL, "message": message[:1024]}
    )
    event = Event(QUARANTINE_FULL, message[:1024], "Warning")
    return Step(facts={**facts, "last_probe": last}, events=(event,))


def _as_of(seen: Observation, facts: dict[str, Any]) -> Observation:
    """The observation once these facts are written."""
    status = seen.update.status.model_copy(update=facts)
    return replace(seen, update=seen.update.model_copy(update={"status": status}))
