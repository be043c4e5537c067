"""What is wrong with the Services of a gateway's canary, and what else would select its pods."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_operator.lifecycle.routes.observed import Selector
from springtide_operator.lifecycle.routes.problems import RouteProblem
from springtide_operator.lifecycle.routes.weights import canary_service

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from springtide_operator.lifecycle.routes.observed import ObservedRouting


def canary_labels(
    template: Mapping[str, str], owner_keys: Iterable[str], ours: Mapping[str, str]
) -> dict[str, str]:
    """Labels of canary pods: those of the owner's pods without the keys that select these.

    Args:
        template: labels of the owner's pod template.
        owner_keys: keys of the selectors of its Deployment and its Service.
        ours: labels that the operator adds.
    """
    dropped = set(owner_keys)
    return {key: value for key, value in template.items() if key not in dropped} | {**ours}


def service_problem(
    routing: ObservedRouting, service: str, path: str, update: str
) -> RouteProblem | None:
    """What is wrong with the owner's Service or with that of the canary.

    Args:
        routing: with the Services of the namespace.
        service: the owner's Service.
        path: of the target in the spec.
        update: name of the update.
    """
    named = routing.service(service)
    if named is None:
        message = f"Service {service} does not exist; create it or change {path}.service"
        return RouteProblem("ServiceNotFound", message)
    if named.selector is None:
        message = f"Service {service} has no selector; name in {path}.service one that has"
        return RouteProblem("ServiceNotFound", message)
    held = routing.service(canary_service(service))
    if held is None:
        return None
    if held.update != update:
        whose = f"IncrementalUpdate {held.update}" if held.update else "this update"
        whose = f"belongs to {whose}" if held.update else f"does not belong to {whose}"
        message = (
            f"Service {held.name} exists and {whose}; it is the name of the canary's Service: "
            "delete or rename it"
        )
        return RouteProblem("NameCollision", message)
    return None


def outdated_service(
    routing: ObservedRouting, service: str, labels: Mapping[str, str]
) -> RouteProblem | None:
    """Whether the Service of the canary leads elsewhere than it would if it were created now.

    Args:
        routing: with the Services of the namespace.
        service: the owner's Service, whose ports may have changed.
        labels: by which the canary's pods are selected: the target may have another name now.
    """
    named, held = routing.service(service), routing.service(canary_service(service))
    if named is None or held is None:
        return None
    what = ""
    if held.ports != named.ports:
        ports = f"Service {named.name} {', '.join(named.ports)}"
        what = f"has port {', '.join(held.ports)}, and {ports}"
    elif held.selector is None or not held.selector.matches(labels):
        own = held.selector.describe() if held.selector else "no pods"
        what = f"selects {own}, and not {Selector(tuple(labels.items())).describe()}"
    if not what:
        return None
    message = f"Service {held.name} {what}; delete Service {held.name}, and it is created again"
    return RouteProblem("ServiceOutdated", message)


def selection_problem(
    routing: ObservedRouting, service: str, labels: Mapping[str, str]
) -> RouteProblem | None:
    """Name a Service or PodDisruptionBudget that would select canary pods, too.

    Args:
        routing: with the Services and budgets of the namespace.
        service: the owner's Service.
        labels: of the canary pods.
    """
    canary = canary_service(service)
    others = [("Service", s.name, s.selector) for s in routing.services or () if s.name != canary]
    others += [("PodDisruptionBudget", b.name, b.selector) for b in routing.budgets]
    for kind, name, selector in others:
        if selector is not None and selector.matches(labels):
            message = (
                f"{kind} {name} would select canary pods ({selector.describe()}); add to its "
                "selector a label of the Deployment's selector, which canary pods do not carry"
            )
            return RouteProblem("CanarySelected", message)
    return None
