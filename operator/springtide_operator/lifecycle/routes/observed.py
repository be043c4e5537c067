"""An HTTPRoute, and the Services and PodDisruptionBudgets beside it, as an observation holds them.

Plain frozen values; `cluster/reading/observed_routes.py` creates them from raw objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True)
class Backend:
    """One Service in the backendRefs of a rule."""

    rule: int
    """Index of the rule."""
    index: int
    """Index in its backendRefs."""
    name: str
    weight: int
    """The API server writes 1 where the owner wrote none."""
    namespace: str = ""
    """Empty: that of the route."""
    port: int | None = None


@dataclass(frozen=True)
class ObservedRoute:
    """An HTTPRoute: the fields that matter here."""

    name: str
    namespace: str = ""
    uid: str = ""
    """Empty: it does not exist."""
    deleting: bool = False
    backends: tuple[Backend, ...] = ()
    changed_by: str = ""
    """The field manager that wrote to its spec last."""
    changed_at: datetime | None = None
    """When that was, as far as it is known."""
    unavailable: str = ""
    """Why nothing is known of it."""
    served: bool = True
    """False: the API server serves no HTTPRoutes, so there is none."""

    def of_rule(self, rule: int, service: str) -> Backend | None:
        """The first entry of a rule that names this Service of the route's own namespace."""
        own = (b for b in self.backends if b.namespace in {"", self.namespace})
        return next((b for b in own if (b.rule, b.name) == (rule, service)), None)

    def rules_of(self, *services: str) -> list[int]:
        """Indexes of the rules that name one of these Services of the route's own namespace."""
        own = (b for b in self.backends if b.namespace in {"", self.namespace})
        return sorted({b.rule for b in own if b.name in services})


@dataclass(frozen=True)
class Requirement:
    """One of matchExpressions."""

    key: str
    operator: str
    """In, NotIn, Exists or DoesNotExist."""
    values: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Selector:
    """A label selector, or the selector of a Service."""

    labels: tuple[tuple[str, str], ...] = ()
    requirements: tuple[Requirement, ...] = ()

    @property
    def keys(self) -> frozenset[str]:
        """Keys of the labels that it compares."""
        return frozenset([key for key, _ in self.labels] + [r.key for r in self.requirements])

    def describe(self) -> str:
        """Write it as kubectl does, without the values of expressions."""
        parts = [f"{key}={value}" for key, value in self.labels]
        parts += [f"{each.key} {each.operator}" for each in self.requirements]
        return ", ".join(parts) or "all pods"

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether it selects a pod with these labels; without any condition it selects all."""
        return all(labels.get(key) == value for key, value in self.labels) and all(
            _meets(requirement, labels) for requirement in self.requirements
        )


def _meets(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    there, value = requirement.key in labels, labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return there and value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return there
        case _:
            return not there


@dataclass(frozen=True)
class ObservedService:
    """A Service of the namespace."""

    name: str
    selector: Selector | None
    """None: it selects no pods."""
    ports: tuple[str, ...] = ()
    """Each port, and the port of its pods: "http 80/TCP to 8000"."""
    update: str = ""
    """Value of its label springtide.dev/update."""


@dataclass(frozen=True)
class ObservedBudget:
    """A PodDisruptionBudget of the namespace."""

    name: str
    selector: Selector | None
    """None: it selects no pods."""


@dataclass(frozen=True)
class ObservedRouting:
    """The way of the requests to one target, and what else selects pods in its namespace."""

    route: ObservedRoute
    services: tuple[ObservedService, ...] | None = None
    """All of the namespace; None: they were not read, as no canary needs them."""
    budgets: tuple[ObservedBudget, ...] = ()
    """All of the namespace, read with the Services."""
    ready_endpoints: int = 0
    """Pods of the canary's Service that its EndpointSlices report as ready."""
    pod_labels: tuple[tuple[str, str], ...] = ()
    """Labels of the pod template of the target."""
    pod_selector: Selector = Selector()
    """The selector of the target."""

    def service(self, name: str) -> ObservedService | None:
        """The Service of that name."""
        return next((each for each in self.services or () if each.name == name), None)
