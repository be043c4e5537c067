"""Traffic Gateway: the route of a target, recorded when its canary starts, and its problems.

The record counts until the end of the rollout, whatever the spec says meanwhile: what was changed
must be restored.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from springtide_api.generation.rollout import MAX_WEIGHT, RolloutRoute, RuleWeight
from springtide_api.names import LABEL_CANARY, LABEL_ROLE, canary_name
from springtide_operator.lifecycle.canary.canaries import canary_of
from springtide_operator.lifecycle.canary.weights import canary_pods
from springtide_operator.lifecycle.routes.actions import CreateCanaryService, SetRouteWeights
from springtide_operator.lifecycle.routes.problems import (
    coarse_problem,
    route_problem,
    start_problem,
)
from springtide_operator.lifecycle.routes.service_problems import (
    canary_labels,
    outdated_service,
    selection_problem,
    service_problem,
)
from springtide_operator.lifecycle.routes.weights import (
    canary_service,
    changes,
    expected,
    pairs,
    unexpected,
)
from springtide_operator.lifecycle.state.generations import unknown_value
from springtide_operator.lifecycle.state.plan import CANARY_ROLE, Waiting

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_api.generation.rollout import RolloutStatus
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.routes.observed import ObservedRouting
    from springtide_operator.lifecycle.routes.problems import RouteProblem
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget


ENDPOINTS = timedelta(seconds=1)
"""How soon to read EndpointSlices again: no watch reports them."""

ALL = 100
"""Share in percent of canary pods that get all requests."""


def recorded_route(rollout: RolloutStatus, name: str) -> RolloutRoute | None:
    """The route of a target in a canary; None: its traffic is Replicas."""
    return next((each.route for each in rollout.targets if each.name == name), None)


def recorded_routes(seen: Observation, rollout: RolloutStatus) -> dict[str, RolloutRoute]:
    """The recorded routes by target; a target that was renamed has none any more."""
    found = {each.name: each.route for each in rollout.targets if each.route}
    declared = {target.target.target_ref.name for target in seen.targets}
    taken = {(route.name, route.service) for name, route in found.items() if name in declared}
    return {
        name: route
        for name, route in found.items()
        if name in declared or (route.name, route.service) not in taken
    }


def new_route(seen: Observation, target: ObservedTarget) -> RolloutRoute | None:
    """What is recorded of a target's route when its canary starts; None with traffic Replicas.

    The route of the spec, but that of a canary which is there and lost its record: it has its
    requests by that one.
    """
    declared, routing = target.target, seen.routings.get(target.target.target_ref.name)
    if routing is None:
        return None
    service, name = declared.service, declared.http_route
    there = canary_of(seen, target)
    if there and there.ours and routing.route.uid and routing.route.name == there.route:
        service, name = there.service, there.route
    if service is None or name is None:
        return None
    weights = [
        RuleWeight(rule=rule, weight=min(stable.weight + canary.weight, MAX_WEIGHT))
        for rule, (stable, canary) in pairs(routing.route, service).items()
    ]
    return RolloutRoute(name=name, service=service, weights=weights)


def route_of(seen: Observation, target: ObservedTarget) -> RolloutRoute | None:
    """The recorded route of a target in a canary or a share in progress, else that of the spec."""
    rolls, name = seen.lineage.rolls, target.target.target_ref.name
    if rolls is not None and rolls.status.rollout.step is not None:
        return recorded_route(rolls.status.rollout, name)
    return given_route(seen, name) or new_route(seen, target)


def given_route(seen: Observation, name: str) -> RolloutRoute | None:
    """The recorded route of a target that may lead to pods of previous in a bake."""
    record = traffic_record(seen) if seen.lineage.rolls is None else None
    route = recorded_route(record.status.rollout, name) if record else None
    return route if route and (route.weight or route.withdrawn_at is None) else None


def totals(route: RolloutRoute) -> dict[int, int]:
    """The weight of the Service in each rule before the canary."""
    return {each.rule: each.weight for each in route.weights}


def weight_patch(
    route: RolloutRoute, routing: ObservedRouting, percent: int
) -> SetRouteWeights | None:
    """The patch by which a canary gets a share of the requests; None: it has it."""
    made = changes(routing.route, route.service, totals(route), percent)
    return SetRouteWeights(route.name, routing.route.uid, made) if made else None


def is_shown(route: RolloutRoute, routing: ObservedRouting, percent: int) -> bool:
    """Whether a route that can be read gives a canary this share."""
    there = bool(pairs(routing.route, route.service))
    return there and weight_patch(route, routing, percent) is None


def shifted(rollout: RolloutStatus, name: str) -> bool:
    """Whether a target's requests go to warm pods of the previous generation, in a rollback."""
    route = recorded_route(rollout, name)
    return route is not None and route.weight == ALL


def selector_labels(target: ObservedTarget) -> dict[str, str]:
    """The label by which a canary's Deployment and Service select its pods, and nothing else."""
    return {LABEL_CANARY: canary_name(target.target.target_ref.name)}


def dropped_keys(routing: ObservedRouting, service: str) -> frozenset[str]:
    """Keys of labels that canary pods do not have: those of the owner's two selectors."""
    named = routing.service(service)
    keys = named.selector.keys if named and named.selector else frozenset[str]()
    return keys | routing.pod_selector.keys


def service_to_create(seen: Observation, target: ObservedTarget) -> CreateCanaryService | None:
    """The Service of the canary of a target, if it is needed and does not exist."""
    route, routing = route_of(seen, target), seen.routings.get(target.target.target_ref.name)
    if route is None or routing is None or routing.services is None:
        return None
    name = canary_service(route.service)
    if routing.service(name) is not None:
        return None
    return CreateCanaryService(name, route.service, tuple(selector_labels(target).items()))


def pods_wanted(seen: Observation, target: ObservedTarget, weight: int) -> int:
    """How many canary pods a weight needs beside those of a target.

    With traffic Gateway the share of its available pods, rounded up: the load of each stays the
    same. A weight that falls is written to the route before its pods go.
    """
    route = route_of(seen, target)
    if route is None:
        return canary_pods(weight, target.desired)
    return max(1, -(-max(weight, route.weight) * target.available // 100))


def gateway_problem(
    seen: Observation, target: ObservedTarget, percents: Sequence[int]
) -> Waiting | None:
    """Why no canary of a target is possible by its route; None with traffic Replicas, too.

    Args:
        seen: the update.
        target: the target.
        percents: weights of the steps that may start next; empty: only what holds a step.
    """
    route, name = route_of(seen, target), target.target.target_ref.name
    routing = seen.routings.get(name)
    if route is None or routing is None:
        return None
    path = f"spec.rollout.targets[{seen.targets.index(target)}]"
    found = route_problem(routing.route, route.service, path)
    if found is None and routing.services is not None:
        found = service_problem(routing, route.service, path, seen.update.metadata.name)
        found = found or _selected(routing, route.service, target)
    if found is None and percents and seen.lineage.rolls is None:
        found = outdated_service(routing, route.service, selector_labels(target))
        at_rest = given_route(seen, name) is None
        found = found or (start_problem(routing.route, route.service) if at_rest else None)
    if found is None and percents:
        found = coarse_problem(route.name, route.service, totals(route), percents)
    return _waiting(found) if found else None


def _selected(
    routing: ObservedRouting, service: str, target: ObservedTarget
) -> RouteProblem | None:
    ours = {LABEL_ROLE: CANARY_ROLE, **selector_labels(target)}
    labels = canary_labels(dict(routing.pod_labels), dropped_keys(routing, service), ours)
    return selection_problem(routing, service, labels)


def _waiting(problem: RouteProblem) -> Waiting:
    return Waiting(problem.reason, problem.message[:1024], "Rollout", blocked=True, targets=True)


def weight_conflict(seen: Observation, rollout: RolloutStatus) -> Waiting | None:
    """What another client changed in the weights of a route: it holds a step, and no rollback."""
    for target in seen.targets:
        name = target.target.target_ref.name
        route, routing = recorded_route(rollout, name), seen.routings.get(name)
        if route is None or routing is None:
            continue
        on_warm_pods = route.weight == ALL
        shares = (ALL,) if on_warm_pods else (route.weight, rollout.weight or route.weight)
        shown = unexpected(routing.route, route.service, totals(route), shares)
        if shown is None:
            continue
        stable, canary = shown
        wanted = expected(shown, totals(route), route.weight)
        by = f" by {routing.route.changed_by}" if routing.route.changed_by else ""
        then = f"the step continues once they are {wanted[0]} and {wanted[1]} again"
        if on_warm_pods:
            then = (
                f"they were {wanted[0]} and {wanted[1]} for the rollback, and are left as they are"
            )
        message = (
            f"HTTPRoute {route.name}: rules[{stable.rule}] weighs {stable.name} {stable.weight} "
            f"and {canary.name} {canary.weight}, changed{by}; {then}; let other clients ignore "
            "differences of weight"
        )
        return Waiting("FieldConflict", message[:1024], "Rollout", targets=True, held=True)
    return None


def traffic_record(seen: Observation) -> ModelGeneration | None:
    """The generation whose status records routes that were changed; None: there is none.

    That of the rollout in progress, else live, whose bake may have given the previous one requests.
    """
    rolls, live = seen.lineage.rolls, seen.lineage.live
    if rolls is not None:
        return rolls if rolls.status.rollout.step is not None else None
    if live is None or live.status.rollout.bake_started_at is None or unknown_value(live):
        return None
    return live if live.status.rollout.step is not None else None


def still_routed(seen: Observation) -> list[str]:
    """Routes that may send requests to pods of a canary."""
    record = traffic_record(seen)
    if record is None:
        return []
    routes = recorded_routes(seen, record.status.rollout).values()
    return sorted({route.name for route in routes if route.withdrawn_at is None})
