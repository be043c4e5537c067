"""Traffic Gateway: takes the requests from a canary in its steps until its pods can answer them.

Pods that are to be replaced lose them first, and a Service without a ready pod at once: a gateway
fails its share of the requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.canary.canaries import canary_of, present
from springtide_operator.lifecycle.rollout.rollback_decision import decide_rollback
from springtide_operator.lifecycle.rollout.rollout_clock import cause_of_others
from springtide_operator.lifecycle.state.plan import Step, Waiting
from springtide_operator.lifecycle.steps.writes import is_replaced
from springtide_operator.lifecycle.traffic.withdrawal import (
    DRAIN,
    drain_wake,
    is_drained,
    patch_back,
    routes_back,
    withdraw_traffic,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedCanary


def park_traffic(seen: Observation, generation: ModelGeneration, now: datetime) -> Step | None:
    """Take the requests from canaries whose pods are replaced, until the new ones are available.

    Where pods are still there, they stay until the gateway has followed.
    """
    lost, waits, routes = set(), False, routes_back(seen)
    for target in seen.targets:
        name, canary = target.target.target_ref.name, canary_of(seen, target)
        if name not in routes or not is_replaced(generation, target, canary):
            continue
        route, there = routes[name], canary is not None and not canary.deployment.deleting
        if route.weight or patch_back(seen, name, route) or (there and not route.withdrawn_at):
            lost.add(name)
        elif canary is not None and there:
            waits = waits or not is_drained(seen, canary, (), now)
    if lost:
        return withdraw_traffic(seen, routes.keys() - lost, now)
    if not waits:
        return None
    if parked := park_unanswered(seen, now):
        return parked
    why = "the pods of the canary are replaced once the gateway sends them no more requests"
    waiting = Waiting("Canary", why, "Rollout", short="weight 0")
    return Step(waiting=waiting, wake_after=drain_wake(seen, now) or DRAIN)


def unanswered(seen: Observation) -> frozenset[str]:
    """Names of the targets whose canary has requests, and no ready pod that answers them."""
    return frozenset(
        name
        for name, route in routes_back(seen).items()
        if (route.weight or patch_back(seen, name, route)) and not _ready_pods(seen, name)
    )


def park_unanswered(seen: Observation, now: datetime) -> Step | None:
    """Take the requests from canaries without a ready pod, whatever happens in their step."""
    lost = unanswered(seen)
    return withdraw_traffic(seen, routes_back(seen).keys() - lost, now) if lost else None


def why_unanswered(seen: Observation) -> str:
    """Why a canary with requests loses them, as a sentence about the first; empty: none does."""
    names = sorted(unanswered(seen))
    if not names:
        return ""
    canary = _canary(seen, names[0])
    if canary is None:
        return f"the canary of Deployment {names[0]} does not exist"
    trouble = f" ({canary.deployment.trouble})" if canary.deployment.trouble else ""
    return f"no pod of Deployment {canary.name} is ready{trouble}"


def abort_unanswered(seen: Observation, generation: ModelGeneration, now: datetime) -> Step | None:
    """Abort a canary whose pods all crash with the requests of a step for the second time.

    Once may be chance. Where a node, an image or a quota takes them, they have until the deadline.
    """
    rollout = generation.status.rollout
    since, seen_at = rollout.unavailable_since, rollout.weight_seen_at
    if since is None or seen_at is None or seen_at <= since:
        return None
    lost = [_canary(seen, name) for name in unanswered(seen)]
    if not _crash(lost):
        return None
    why = (
        f"{why_unanswered(seen)}: the second time since {since:%H:%M} UTC that none is left while "
        f"the canary has {rollout.weight} % of the requests; see the events of its pods"
    )
    return decide_rollback(seen, generation, why, now)


def _crash(canaries: Iterable[ObservedCanary | None]) -> bool:
    troubles = [each.deployment.trouble if each else "" for each in canaries]
    return all(trouble and not cause_of_others(trouble) for trouble in troubles)


def _canary(seen: Observation, name: str) -> ObservedCanary | None:
    return next((each for each in present(seen) if each.of == name), None)


def _ready_pods(seen: Observation, name: str) -> int:
    """How many pods of a target's canary answer requests."""
    routing, canary = seen.routings.get(name), _canary(seen, name)
    return min(canary.deployment.available, routing.ready_endpoints) if canary and routing else 0
