"""The deletion of canaries, and what waits until they are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.canary.canaries import present
from springtide_operator.lifecycle.canary.gateway import still_routed
from springtide_operator.lifecycle.state.plan import DeleteCanary, Event, Step, Waiting, subject

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedCanary


def delete_canaries(seen: Observation, canaries: Iterable[ObservedCanary], now: datetime) -> Step:
    """Delete canaries; those whose deletion is refused do not hold up the others."""
    actions = tuple(map(_deletion, canaries))
    refused = {r.subject for r in seen.refusals if r.is_pending(now)}
    open_now = tuple(a for a in actions if subject(a) not in refused)
    events = tuple(
        Event("CanaryRemoved", f"Deployment {action.name} is deleted") for action in open_now
    )
    return Step(actions=open_now or actions, events=events)


def deletion_of(canary: ObservedCanary) -> str:
    """The deletion of a canary, as a refusal names it."""
    return subject(_deletion(canary))


def _deletion(canary: ObservedCanary) -> DeleteCanary:
    return DeleteCanary(canary.name, canary.deployment.uid)


def removal_waiting(seen: Observation) -> Waiting | None:
    """Why a rollout or a rollback is not over yet: a canary is still there."""
    if routes := still_routed(seen):
        message = f"HTTPRoute {', '.join(routes)} may still send requests to the canary's pods"
        return Waiting("CanaryRemains", message[:1024], "Rollout", short="removing the canary")
    names = ", ".join(each.name for each in present(seen))
    if not names:
        return None
    message = (
        f"Deployment {names} of the canary is still there; if it stays, see its "
        "metadata.finalizers and kubectl describe"
    )
    return Waiting("CanaryRemains", message[:1024], "Rollout", short="removing the canary")
