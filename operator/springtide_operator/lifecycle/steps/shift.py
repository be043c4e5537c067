"""Traffic Gateway: writes the weight of a step to the routes once canary pods get requests.

Order: status; ready endpoints of every canary Service; one patch for each route; `weightSeenAt`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from springtide_operator.lifecycle.canary.canaries import canary_of
from springtide_operator.lifecycle.canary.gateway import (
    ENDPOINTS,
    is_shown,
    recorded_route,
    weight_patch,
)
from springtide_operator.lifecycle.canary.report import short
from springtide_operator.lifecycle.routes.weights import canary_service
from springtide_operator.lifecycle.state.plan import Step, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from springtide_api.generation.rollout import RolloutRoute, RolloutStatus, RolloutTarget
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.routes.observed import ObservedRouting
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget


def shift_traffic(seen: Observation, generation: ModelGeneration, now: datetime) -> Step | None:
    """Write the weight of the step to every route; None: each has it, or traffic is Replicas."""
    rollout = generation.status.rollout
    routed = list(_routed(seen, rollout))
    for each in routed:
        if why := _endpoints_missing(seen, generation, each, now):
            return Step(waiting=why, wake_after=ENDPOINTS)
    percent = rollout.weight or 0
    made = (weight_patch(each.route, each.routing, percent) for each in routed)
    actions = tuple(action for action in made if action)
    return Step(actions=actions) if actions else None


def is_shifted(seen: Observation, rollout: RolloutStatus) -> bool:
    """Whether every route was seen with the weight of the step."""
    return all(each.route.weight == rollout.weight for each in _routed(seen, rollout))


def shifted_targets(seen: Observation, rollout: RolloutStatus) -> list[RolloutTarget]:
    """The recorded targets, with the weight of the step on their routes."""
    names = {each.target.target.target_ref.name for each in _routed(seen, rollout)}
    update = {"weight": rollout.weight, "withdrawn_at": None}
    return [
        each.model_copy(update={"route": each.route.model_copy(update=update)})
        if each.route and each.name in names
        else each
        for each in rollout.targets
    ]


def with_shown_weights(
    seen: Observation, rollout: RolloutStatus, targets: list[RolloutTarget]
) -> list[RolloutTarget]:
    """Targets, with the weight of the step on routes that show it, recorded before or not.

    An operator may have ended after it wrote a weight, and the step starts again with another one.
    """
    shown = {
        each.target.target.target_ref.name
        for each in _routed(seen, rollout)
        if rollout.weight and is_shown(each.route, each.routing, rollout.weight)
    }
    update = {"weight": rollout.weight, "withdrawn_at": None}
    return [
        each.model_copy(update={"route": each.route.model_copy(update=update)})
        if each.route and each.name in shown
        else each
        for each in targets
    ]


class _Routed(NamedTuple):
    target: ObservedTarget
    route: RolloutRoute
    routing: ObservedRouting


def _routed(seen: Observation, rollout: RolloutStatus) -> Iterable[_Routed]:
    for target in seen.targets:
        name = target.target.target_ref.name
        route, routing = recorded_route(rollout, name), seen.routings.get(name)
        if route is not None and routing is not None:
            yield _Routed(target, route, routing)


def _endpoints_missing(
    seen: Observation, generation: ModelGeneration, routed: _Routed, now: datetime
) -> Waiting | None:
    """Why a route is not written yet: the gateway does not know all canary pods."""
    canary = canary_of(seen, routed.target)
    wanted, ready = canary.deployment.desired if canary else 1, routed.routing.ready_endpoints
    if ready >= wanted:
        return None
    deadline = generation.status.rollout.deadline or now
    message = (
        f"Service {canary_service(routed.route.service)}: its EndpointSlices have {ready} of "
        f"{wanted} canary pods ready; HTTPRoute {routed.route.name} is changed once all are"
    )
    brief = short(seen, generation, f"{ready}/{wanted} endpoints")
    return Waiting("Canary", message, "Rollout", short=brief, held=now >= deadline)
