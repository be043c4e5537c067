"""A rollback of a generation that bakes: warm pods get all requests, by one write of each route.

The targets get the previous generation by the usual apply meanwhile. Where the pods are not ready,
that is all; where they get ready before it is done, they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from springtide_operator.lifecycle.canary.canaries import canary_of
from springtide_operator.lifecycle.canary.gateway import (
    ALL,
    ENDPOINTS,
    recorded_route,
    selector_labels,
    weight_patch,
)
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.routes.problems import route_problem
from springtide_operator.lifecycle.routes.service_problems import (
    outdated_service,
    service_problem,
)
from springtide_operator.lifecycle.state.plan import Event, Step, subject
from springtide_operator.lifecycle.warm.standby import kept_warm, returning

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime, timedelta

    from springtide_api.generation.rollout import RolloutRoute
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.routes.observed import ObservedRouting
    from springtide_operator.lifecycle.routes.problems import RouteProblem
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedCanary, ObservedTarget
    from springtide_operator.lifecycle.state.plan import WriteGeneration


def shift_to_warm(seen: Observation, now: datetime) -> Step | None:
    """Give warm pods all requests of targets that do not run the previous generation yet."""
    rolled_back = returning(seen)
    if rolled_back is None:
        return None
    waiting = _unshifted(seen, rolled_back)
    patches = [(each, weight_patch(each.route, each.routing, ALL)) for each in waiting]
    if done := [each.name for each, patch in patches if patch is None]:
        return Step(actions=(_recorded(rolled_back, done, now),))
    wanted = [(each, patch) for each, patch in patches if patch and _missing(each) <= 0]
    refused = {r.subject for r in seen.refusals if r.is_pending(now)}
    open_now = [(each, patch) for each, patch in wanted if subject(patch) not in refused]
    actions = tuple(patch for _, patch in open_now or wanted)
    events = tuple(_event(seen, each) for each, _ in open_now)
    return Step(actions=actions, events=events) if actions else None


def endpoints_wake(seen: Observation) -> timedelta | None:
    """When to read EndpointSlices again, which no watch reports; None: nothing waits for them."""
    rolled_back = returning(seen)
    if rolled_back is None:
        return None
    waiting = _unshifted(seen, rolled_back)
    available = (each.canary.deployment.available - _least(each) for each in waiting)
    return ENDPOINTS if any(more >= 0 for more in available) else None


class _Unshifted(NamedTuple):
    name: str
    target: ObservedTarget
    canary: ObservedCanary
    route: RolloutRoute
    routing: ObservedRouting


def _unshifted(seen: Observation, rolled_back: ModelGeneration) -> list[_Unshifted]:
    """Targets whose warm pods have no requests yet, and whose routes can be written."""
    kept, found = kept_warm(seen), []
    for target in seen.targets:
        name, canary = target.target.target_ref.name, canary_of(seen, target)
        route = recorded_route(rolled_back.status.rollout, name)
        routing = seen.routings.get(name)
        if name not in kept or canary is None or route is None or routing is None:
            continue
        if route.weight != ALL and _problem(seen, target, route, routing) is None:
            found.append(_Unshifted(name, target, canary, route, routing))
    return found


def _problem(
    seen: Observation, target: ObservedTarget, route: RolloutRoute, routing: ObservedRouting
) -> RouteProblem | None:
    """Why a route cannot lead to warm pods."""
    path, update = "spec.rollout.targets", seen.update.metadata.name
    return (
        route_problem(routing.route, route.service, path)
        or service_problem(routing, route.service, path, update)
        or outdated_service(routing, route.service, selector_labels(target))
    )


def _missing(each: _Unshifted) -> int:
    """How many more warm pods must be ready: as many as pods of the target serve now."""
    return _least(each) - min(each.canary.deployment.available, each.routing.ready_endpoints)


def _least(each: _Unshifted) -> int:
    """Pods that are only a share of the target's, as of a holdback, never get all requests."""
    few = each.canary.deployment.desired < each.target.desired
    return max(1, each.target.desired if few else each.target.available)


def _recorded(
    rolled_back: ModelGeneration, names: Collection[str], now: datetime
) -> WriteGeneration:
    """Record the targets whose routes were seen with all weight on warm pods."""
    changes = {"weight": ALL, "shifted_at": now, "withdrawn_at": None}
    targets = [
        each.model_copy(update={"route": each.route.model_copy(update=changes)})
        if each.route and each.name in names
        else each
        for each in rolled_back.status.rollout.targets
    ]
    return with_rollout(rolled_back, {"targets": targets})


def _event(seen: Observation, each: _Unshifted) -> Event:
    served = seen.lineage.served
    message = (
        f"HTTPRoute {each.route.name}: Deployment {each.canary.name} gets all requests of "
        f"Deployment {each.name} until that runs "
        f"{served.metadata.name if served else ''} again"
    )
    return Event("TrafficShifted", message)
