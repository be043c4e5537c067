"""The request `rollback.g<number>`: a generation is withdrawn from the targets, finally."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.canary.canaries import in_steps
from springtide_operator.lifecycle.requests.request import Request, Response
from springtide_operator.lifecycle.rollout.rollback import contested_targets
from springtide_operator.lifecycle.rollout.rollback_decision import (
    decide_rollback,
    rollback_target,
)
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.state.generations import rolling, unknown_value

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation


def rollback(seen: Observation, request: Request, now: datetime) -> Response:
    """Roll back the live generation, or the one that rolls out.

    Repeated after a crash it gives the same answer, and writes nothing twice.
    """
    named = next((g for g in seen.generations if g.spec.number == request.number), None)
    if named is None or (why := _refused(seen, named, request.token)):
        return Response(False, why if named else _which(seen, request))
    message = (
        f"{named.metadata.name} is rolled back {_to(seen, named)}; it will not be served again"
    )
    contested = [t.target.target_ref.name for t in contested_targets(seen)]
    if contested and seen.lineage.live:
        message += f"; both variables are taken back on Deployment {', '.join(contested)}"
    taken = {"take_back": contested}
    if named.status.rollout.rollback_reason:
        repeated = (with_rollout(named, taken),) if contested else ()
        return Response(True, message, repeated)
    decision = decide_rollback(seen, named, f"requested by {request}", now, taken)
    return Response(True, message, decision.actions, events=decision.events)


def _to(seen: Observation, named: ModelGeneration) -> str:
    """What is served, and live, after the rollback."""
    back, pinned = rollback_target(seen, named), seen.lineage.pinned
    if back is None and in_steps(named.status.rollout):
        return "and its canary removed; the targets keep what they serve"
    if back is None:
        return "and removed from the targets"
    if pinned is None:
        return f"to {back.metadata.name}"
    live, serves = back.metadata.name, pinned.metadata.name
    return f"(live is {live} then, and {serves}, which is pinned, is served)"


def _which(seen: Observation, request: Request) -> str:
    """Which generation a request without a known number may name."""
    missing = "name the generation"
    if request.number is not None:
        missing = f"there is no generation g{request.number}"
    return f"{missing}; {_possible(seen, request.token)}"


def _possible(seen: Observation, token: str) -> str:
    """The request that would be accepted now."""
    rolls, live = seen.lineage.rolls, seen.lineage.live
    possible = rolls or live
    if possible is None:
        return "nothing is live and nothing rolls out"
    if rolls is None and (why := _stays(seen, possible)):
        return why
    what = "rolls out" if rolls else "is live"
    if rolls and rolls.status.rollout.rollback_reason:
        what = "is being rolled back"
    return f"{possible.metadata.name} {what}: rollback.g{possible.spec.number}@{token}"


def _refused(seen: Observation, named: ModelGeneration, token: str) -> str:
    """Why a generation cannot be rolled back; empty if it can, or if that has begun."""
    name, rolls, rollout = named.metadata.name, seen.lineage.rolls, named.status.rollout
    if unknown := unknown_value(named):
        return f"{name} has {unknown}, a value of another version"
    if rolling(named):
        return ""
    if why := _pinned_weights(seen, named):
        return why
    if rollout.rolled_back_at:
        return f"{name} was rolled back already; {_possible(seen, token)}"
    if rolls is not None:
        return f"{name} does not roll out; {_possible(seen, token)}"
    live = seen.lineage.live
    if live is None or live.metadata.name != name:
        state = "is no longer live" if rollout.promoted_at else "was not rolled out"
        return f"{name} {state}; {_possible(seen, token)}"
    return _stays(seen, named)


def _stays(seen: Observation, live: ModelGeneration) -> str:
    """Why the live generation cannot be rolled back; empty if it can."""
    if why := _pinned_weights(seen, live):
        return why
    if rollback_target(seen, live) is None:
        return (
            f"no earlier generation is there to return to, so {live.metadata.name} stays live; "
            "deliver data for a better one, or set spec.suspend to true to keep it"
        )
    return ""


def _pinned_weights(seen: Observation, named: ModelGeneration) -> str:
    """Why a generation with the weights of the pinned one cannot be withdrawn."""
    pinned = seen.lineage.pinned
    if pinned is None or pinned.status.artifact is None or named.status.artifact is None:
        return ""
    if pinned.status.artifact.served_digest != named.status.artifact.served_digest:
        return ""
    name, pinned_name = named.metadata.name, pinned.metadata.name
    what = (
        "is pinned" if name == pinned_name else f"has the weights of {pinned_name}, the pinned one"
    )
    return f"{name} {what}; remove spec.rollout.pin, or pin another generation first"
