"""After the rollback of a promoted generation no run starts before its rows are decided on.

The next run would be trained on the same rows. A user requests `quarantine` or `retry`, or
`rollout.rollback.quarantineWindow` quarantines them at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.jobs.suspension import resumes_once
from springtide_operator.lifecycle.state.plan import Event, Step, Waiting
from springtide_operator.lifecycle.state.quarantine_records import full_quarantine, write_record
from springtide_operator.lifecycle.state.rejections import rollback_hold_name

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation


def rollback_hold(seen: Observation) -> Waiting | None:
    """Why no run starts after a rollback, and the requests that end it."""
    back = seen.lineage.rolled_back
    if not back or seen.lineage.candidate is not None or _quarantined_at_once(seen):
        return None
    message = (
        f"{back[-1].metadata.name} was rolled back after its promotion, and no run starts on the "
        f"rows that it was trained on: {_requests(seen)}"
    )
    reason = "RolledBackAfterPromotion"
    return Waiting(reason, message[:1024], short=f"held: {reason}", held=True)


def _requests(seen: Observation) -> str:
    named, requests = seen.lineage.proposed_for_quarantine, []
    full = full_quarantine(seen.update.status.cursor, named)
    if not full:
        requests.append(f"quarantine@<token> to leave {', '.join(named)} out")
    retry = "retry@<token> to train on them again"
    later = f"; {retry} once {condition}" if (condition := resumes_once(seen)) else ""
    requests += [] if later else [retry]
    annotate = f"annotate springtide.dev/request={', or '.join(requests)}" if requests else ""
    return f"{annotate}{later}{f'; {full}' if full else ''}".removeprefix("; ")


def _quarantined_at_once(seen: Observation) -> bool:
    """Whether the spec asks for a quarantine of these rows, and there is room for it."""
    rollback, wanted = seen.update.spec.rollout.rollback, seen.lineage.proposed_for_quarantine
    full = full_quarantine(seen.update.status.cursor, wanted)
    return rollback.quarantine_window and not full


def quarantine_rolled_back(seen: Observation, now: datetime) -> Step | None:
    """Quarantine the rows of a generation that was rolled back, where the spec asks for it."""
    back, cursor = seen.lineage.rolled_back, seen.update.status.cursor
    if not back or seen.lineage.candidate is not None or not _quarantined_at_once(seen):
        return None
    wanted = seen.lineage.proposed_for_quarantine
    quarantined = sorted({*cursor.quarantined, *wanted})
    holds = [*seen.update.status.acknowledged_holds, *map(rollback_hold_name, back)]
    facts = {
        "cursor": cursor.model_copy(update={"quarantined": quarantined}),
        "acknowledged_holds": holds[-16:],
    }
    message = (
        f"quarantined: {', '.join(wanted)}, as {back[-1].metadata.name} was trained on it and was "
        "rolled back (rollout.rollback.quarantineWindow); springtide.dev/request=release@<token> "
        "adds it to the training data again"
    )
    return Step(
        actions=write_record(seen, quarantined, seen.lineage.training_only, now),
        facts=facts,
        events=(Event("WindowQuarantined", message[:1024], "Warning"),),
    )
