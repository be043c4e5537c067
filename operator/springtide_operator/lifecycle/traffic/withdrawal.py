"""Traffic Gateway: takes the requests from a canary before its pods go.

The weights that the owner wrote are restored, whoever changed them meanwhile: a rollback never
holds. Pods stay until the gateway has followed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_api.generation.rollout import RolloutRoute
from springtide_api.names import canary_name
from springtide_operator.lifecycle.canary.canaries import present
from springtide_operator.lifecycle.canary.gateway import (
    new_route,
    recorded_route,
    recorded_routes,
    traffic_record,
    weight_patch,
)
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.state.plan import Event, Step, subject
from springtide_operator.lifecycle.state.recorded_times import is_ahead

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.routes.actions import SetRouteWeights
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedCanary
    from springtide_operator.lifecycle.state.plan import WriteGeneration

DRAIN = timedelta(seconds=15)
"""From weight 0 to the deletion of canary pods: gateways follow a route within seconds."""


def withdraw_traffic(seen: Observation, kept: Collection[str], now: datetime) -> Step | None:
    """Restore the weights of targets whose canaries go; None: that is done, or not possible now.

    Args:
        seen: the update.
        kept: names of targets whose canaries stay.
        now: the moment.
    """
    routes = {name: route for name, route in routes_back(seen).items() if name not in kept}
    patches = {name: patch_back(seen, name, route) for name, route in routes.items()}
    actions = [each for each in patches.values() if each is not None]
    if not actions:
        return _record(seen, routes, now)
    # Recorded before: the next decision must not take this for a change of another client.
    new = [
        name
        for name, route in routes.items()
        if patches[name] and (route.weight or route.withdrawn_at)
    ]
    open_now = [each for each in actions if not _is_refused(seen, each, now)]
    events = (
        Event("TrafficWithdrawn", f"HTTPRoute {each.route}: the canary gets weight 0")
        for each in open_now
    )
    return Step(actions=(*_recorded(seen, new, None), *(open_now or actions)), events=tuple(events))


def routes_back(seen: Observation) -> dict[str, RolloutRoute]:
    """The recorded routes by target; where no canary is on record, those of canaries left over.

    Outside a rollout only those that lead to pods, or may: the owner's weights are left alone. The
    Deployment of a canary that is not on record names its route, whatever the spec does.
    """
    record = traffic_record(seen)
    recorded = recorded_routes(seen, record.status.rollout) if record else {}
    left = {each.name for each in present(seen)}
    found = {  # not validated: a client may write any annotation
        each.of: RolloutRoute.model_construct(name=each.route, service=each.service)
        for each in present(seen)
        if each.route
    }
    if record is not None and record is seen.lineage.rolls:
        known = {(each.name, each.service) for each in recorded.values()}  # or renamed
        lost = {key: each for key, each in found.items() if (each.name, each.service) not in known}
        return lost | recorded
    for target in seen.targets:
        name, route = target.target.target_ref.name, new_route(seen, target)
        if route is not None and canary_name(name) in left:
            found.setdefault(name, RolloutRoute(name=route.name, service=route.service))
    for name, route in recorded.items():
        routing = seen.routings.get(name)
        given = route.weight or route.withdrawn_at is None or seen.now - route.withdrawn_at < DRAIN
        named = canary_name(name) in left and routing and routing.route.name == route.name
        if given or named:
            found[name] = route
    return found


def _is_left_over(seen: Observation, name: str, route: RolloutRoute) -> bool:
    """Whether no record tells the weights of a route, nor since when its canary has none."""
    record = traffic_record(seen)
    if record is None or recorded_route(record.status.rollout, name) is None:
        return True
    return seen.lineage.rolls is None and not route.weights


def patch_back(seen: Observation, name: str, route: RolloutRoute) -> SetRouteWeights | None:
    """The patch that takes a canary's weight; None: it has none, or its route is not there."""
    routing = seen.routings.get(name)
    if routing is None or not routing.route.uid or routing.route.name != route.name:
        return None
    return weight_patch(route, routing, 0)


def _is_refused(seen: Observation, action: SetRouteWeights, now: datetime) -> bool:
    refusal = seen.refusal(subject(action))
    return refusal is not None and refusal.is_pending(now)


def _record(seen: Observation, routes: Mapping[str, RolloutRoute], now: datetime) -> Step | None:
    """Write since when the canaries of these targets get no requests."""
    new = [
        name
        for name, route in routes.items()
        if not (is_unknown(seen, name) or _is_left_over(seen, name, route))
        and (route.withdrawn_at is None or is_ahead(route.withdrawn_at, now))
    ]
    actions = _recorded(seen, new, now)
    return Step(actions=actions) if actions else None


def _recorded(
    seen: Observation, names: Collection[str], at: datetime | None
) -> tuple[WriteGeneration, ...]:
    record = traffic_record(seen)
    if record is None or not names:
        return ()
    targets = [
        each.model_copy(
            update={"route": each.route.model_copy(update={"weight": 0, "withdrawn_at": at})}
        )
        if each.route and each.name in names
        else each
        for each in record.status.rollout.targets
    ]
    if targets == record.status.rollout.targets:
        return ()
    facts = {"targets": targets, "holdback_seen_at": None, **_shown_until_then(seen, record, names)}
    return (with_rollout(record, facts),)


def _shown_until_then(
    seen: Observation, record: ModelGeneration, names: Collection[str]
) -> dict[str, object]:
    """The share that routes of a bake have until it is taken back, which may be refused for long.

    Without it the share would be taken for another client's, once the spec has one again.
    """
    if seen.lineage.rolls is not None:
        return {}
    routes = [each.route for each in record.status.rollout.targets if each.name in names]
    shares = [route.weight for route in routes if route and route.weight]
    return {"holdback": max(shares)} if shares else {}


def is_unknown(seen: Observation, name: str) -> bool:
    """Whether the route of a target cannot be read now: it may still lead to the canary."""
    routing = seen.routings.get(name)
    if routing is None:
        return False
    return bool(routing.route.unavailable) and routing.route.served


def is_drained(
    seen: Observation, canary: ObservedCanary, kept: Collection[str], now: datetime
) -> bool:
    """Whether the pods of a canary may be deleted: the gateway sends them nothing any more.

    Args:
        seen: the update.
        canary: a canary that is not kept.
        kept: names of targets whose canaries stay; there, it is one of an earlier generation.
        now: the moment.
    """
    routes = {canary_name(name): (name, route) for name, route in routes_back(seen).items()}
    if canary.name not in routes:
        return True
    name, route = routes[canary.name]
    if _is_left_over(seen, name, route) or (seen.lineage.rolls is None and is_unknown(seen, name)):
        # Another client may have given it weight since the record was written.
        left = _drains_until(seen, name, route)
        return not is_unknown(seen, name) and (left is None or now >= left)
    if name in kept:
        return route.weight == 0
    return route.withdrawn_at is not None and now - route.withdrawn_at >= DRAIN


def drain_wake(seen: Observation, now: datetime) -> timedelta | None:
    """When the next canary pods may be deleted; None: none wait for that."""
    there = {each.name for each in present(seen)}
    left = (
        _drains_until(seen, name, route)
        for name, route in routes_back(seen).items()
        if canary_name(name) in there
    )
    return min((each - now for each in left if each and each > now), default=None)


def _drains_until(seen: Observation, name: str, route: RolloutRoute) -> datetime | None:
    """When a gateway has followed a route; None: nothing tells.

    Where no record tells since when its canary has no weight, as the record of a live generation
    was deleted, it has none since the last write to the route at the latest.
    """
    since, routing = route.withdrawn_at, seen.routings.get(name)
    if since is None and routing is not None and _is_left_over(seen, name, route):
        since = routing.route.changed_at
        if since and is_ahead(since, seen.now):
            return None
    return since + DRAIN if since else None
