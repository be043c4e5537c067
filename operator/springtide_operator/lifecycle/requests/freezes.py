"""The request `unfreeze`: rollbacks so far no longer count for `rollout.rollback.freezeAfter`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.evaluation.freeze import counted_rollbacks, decided_at, frozen
from springtide_operator.lifecycle.requests.request import Response
from springtide_operator.lifecycle.state.plan import WriteGeneration
from springtide_operator.lifecycle.state.quarantine_records import record_owner

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation


def unfreeze(seen: Observation, now: datetime) -> Response:
    """End the freeze by a fact on the newest generation, which a restored update keeps.

    Repeated after a crash it gives the same answer.
    """
    newest = record_owner(seen)
    row = counted_rollbacks(seen, without=newest)
    if newest is None or not frozen(seen, row):
        return Response(False, "the update is not frozen")
    message = f"the {len(row)} rollbacks so far no longer count; runs and rollouts start again"
    if not frozen(seen):
        return Response(True, message)
    ended = [g.status.rollout.rolled_back_at for g in row if g.status.rollout.rolled_back_at]
    latest = max([*ended, *map(decided_at, row)])
    status = newest.status.model_copy(update={"unfrozen_at": max(now, latest)})
    return Response(True, message, (WriteGeneration(newest.metadata.name, status),))
