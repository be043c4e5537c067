"""What is wrong with the HTTPRoute of a target, as reason and message with what to write in Git.

A route belongs to its owner: Springtide changes two weights of it, and adds or removes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.routes.weights import (
    MAX_ERROR,
    canary_service,
    error_of,
    pairs,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from springtide_operator.lifecycle.routes.observed import ObservedRoute

USUAL_TOTAL = 100


@dataclass(frozen=True)
class RouteProblem:
    """Why weights of a route cannot be written."""

    reason: str
    message: str


def route_problem(route: ObservedRoute, service: str, path: str) -> RouteProblem | None:
    """What is wrong with a route, whether a canary runs or not.

    Args:
        route: as it is.
        service: the owner's Service.
        path: of the target in the spec, such as spec.rollout.targets[0].
    """
    canary, what = canary_service(service), f"HTTPRoute {route.name}"
    if route.unavailable:
        return RouteProblem("RouteUnavailable", f"{what}: {route.unavailable}")
    if not route.uid or route.deleting:
        message = (
            f"{what} does not exist; create it with Services {service} and {canary} in its "
            f"backendRefs, or change {path}.httpRoute"
        )
        return RouteProblem("RouteNotFound", message)
    for backend in route.backends:
        if backend.name in {service, canary} and backend.namespace not in {"", route.namespace}:
            message = (
                f"{what}: rules[{backend.rule}].backendRefs[{backend.index}] is Service "
                f"{backend.name} of namespace {backend.namespace}; requests are shifted only "
                f"within namespace {route.namespace}: remove its namespace"
            )
            return RouteProblem("RouteWithoutService", message)
    if not route.rules_of(service):
        message = (
            f"{what} names Service {service} in no rule; add it to backendRefs, or change "
            f"{path}.service or {path}.httpRoute"
        )
        return RouteProblem("RouteWithoutService", message)
    return _incomplete_rule(route, service)


def _incomplete_rule(route: ObservedRoute, service: str) -> RouteProblem | None:
    """Name a rule that has one of both Services, or one of them twice."""
    canary = canary_service(service)
    for rule in route.rules_of(service, canary):
        where = f"HTTPRoute {route.name}: rules[{rule}].backendRefs"
        names = [
            b.name
            for b in route.backends
            if b.rule == rule and b.name in {service, canary} and b.namespace in own(route)
        ]
        if canary not in names:
            stable = route.of_rule(rule, service)
            port = f", port: {stable.port}" if stable and stable.port is not None else ""
            message = (
                f"{where} names Service {service} without {canary}; write in Git "
                f"weight: {USUAL_TOTAL} on {service}, and add {{name: {canary}{port}, weight: 0}}"
            )
            return RouteProblem("RouteWithoutCanary", message)
        if service not in names:
            message = f"{where} names Service {canary} without {service}; remove it, or add both"
            return RouteProblem("RouteWithoutService", message)
        if len(names) > 2:
            message = f"{where} names Service {service} or {canary} twice; name each once"
            return RouteProblem("RouteAmbiguous", message)
    return None


def own(route: ObservedRoute) -> set[str]:
    """The names of a route's own namespace in backendRefs."""
    return {"", route.namespace}


def start_problem(route: ObservedRoute, service: str) -> RouteProblem | None:
    """Why a canary cannot begin with the weights of a route: without one they must be all to none.

    Args:
        route: without a `route_problem`.
        service: the owner's Service.
    """
    canary = canary_service(service)
    for rule, (stable, other) in pairs(route, service).items():
        if other.weight or not stable.weight:
            message = (
                f"HTTPRoute {route.name}: rules[{rule}].backendRefs weighs {service} "
                f"{stable.weight} and {canary} {other.weight} outside the steps of a canary; "
                f"{_fix(service)} "
                "(without a weight, each counts as 1)"
            )
            return RouteProblem("RouteNotAtRest", message)
    return None


def coarse_problem(
    route: str, service: str, totals: Mapping[int, int], percents: Iterable[int]
) -> RouteProblem | None:
    """Why weights of a route do not reach the share of a step.

    Args:
        route: its name.
        service: the owner's Service.
        totals: the weight of the Service in each rule, without a canary.
        percents: shares of the steps.
    """
    shares = list(percents)
    for rule, total in totals.items():
        coarse = next((share for share in shares if error_of(total, share) > MAX_ERROR), None)
        if coarse is not None:
            message = (
                f"HTTPRoute {route}: rules[{rule}].backendRefs: of weight {total} of {service}, "
                f"{coarse} % is no whole number within {MAX_ERROR:g} points; {_fix(service)}"
            )
            return RouteProblem("RouteTooCoarse", message)
    return None


def _fix(service: str) -> str:
    weight = f"weight: {USUAL_TOTAL} on {service} and weight: 0 on {canary_service(service)}"
    return f"set {weight} in Git"
