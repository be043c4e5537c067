"""The request `retry.g<number>`: a generation whose rollout failed is rolled out again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.generation.rollout import RolloutAttempt, RolloutStatus
from springtide_operator.lifecycle.evaluation.freeze import frozen
from springtide_operator.lifecycle.requests.request import Request, Response, busy
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.state.generations import unknown_value

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation

MAX_ATTEMPTS = 8
"""Earlier attempts that a status holds."""


def retry_rollout(seen: Observation, request: Request, now: datetime) -> Response:
    """Roll a generation out again whose rollout failed for a cause that is not its own.

    Repeated after a crash it gives the same answer.
    """
    named = next((g for g in seen.generations if g.spec.number == request.number), None)
    if named is None:
        return Response(False, f"there is no generation g{request.number}")
    name, rollout = named.metadata.name, named.status.rollout
    message = f"{name} rolls out again"
    if named is seen.lineage.candidate and rollout.attempts and not rollout.rollback_reason:
        return Response(True, message)
    if why := _refused(seen, named):
        return Response(False, why)
    ended = RolloutAttempt(
        started_at=rollout.step_started_at,
        ended_at=rollout.rolled_back_at or now,
        outcome="RolloutFailed",
        reason=rollout.rollback_reason,
    )
    # What both models were seen to do still holds: a test that began again would have its share of
    # false alarms once more.
    fresh = RolloutStatus(
        attempts=[*rollout.attempts, ended][-MAX_ATTEMPTS:], comparisons=rollout.comparisons
    )
    return Response(True, message, (with_rollout(named, dict(fresh)),))


def _refused(seen: Observation, named: ModelGeneration) -> str:
    name, status, live = named.metadata.name, named.status, seen.lineage.live
    if unknown := unknown_value(named):
        return f"{name} has {unknown}, a value of another version"
    if not (status.rollout.failure and status.rollout.rolled_back_at):
        return f"the rollout of {name} did not fail (status.outcome is {status.outcome or 'empty'})"
    if status.files_deleted_at:
        return f"the weights of {name} are being deleted (spec.history)"
    if why := busy(seen):
        return why
    if seen.lineage.candidate is not None:
        return f"{seen.lineage.candidate.metadata.name} waits for data; reject it"
    if seen.update.spec.mode != "Enforce":
        return f"spec.mode is {seen.update.spec.mode}, which would retire {name}; change it first"
    parent = named.spec.parent
    if live is not None and (parent is None or parent.name != live.metadata.name):
        return f"{live.metadata.name} is live, which is not its parent"
    return "the update is frozen; request unfreeze first" if frozen(seen) else ""
