"""What a decision may ask for beside the targets: the Service of a canary, weights of a route."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from springtide_operator.lifecycle.routes.weights import WeightChange


@dataclass(frozen=True)
class CreateCanaryService:
    """Create the Service of a canary's pods. An existing one is accepted if it is ours."""

    name: str
    service: str
    """The owner's Service, whose ports it gets."""
    selector: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SetRouteWeights:
    """Write weights of an HTTPRoute, if it still is this one and each weight is as it was seen."""

    route: str
    uid: str
    changes: tuple[WeightChange, ...]


RouteAction = CreateCanaryService | SetRouteWeights


def route_subject(action: RouteAction) -> str:
    """Return what an action writes to."""
    if isinstance(action, SetRouteWeights):
        return f"HTTPRoute {action.route}"
    return f"Service {action.name}"
