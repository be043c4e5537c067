"""HTTPRoutes, Services, PodDisruptionBudgets and EndpointSlices for an observation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api import names
from springtide_operator.cluster.api.objects import moment
from springtide_operator.cluster.watching.watches import CHANGED_AT, CHANGED_BY
from springtide_operator.lifecycle.routes.observed import (
    Backend,
    ObservedBudget,
    ObservedRoute,
    ObservedService,
    Requirement,
    Selector,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from springtide_operator.cluster.api.kinds import Raw


def observed_route(
    name: str, raw: Raw | None, unavailable: str = "", *, served: bool = True
) -> ObservedRoute:
    """Read a route.

    Args:
        name: as the spec names it.
        raw: the HTTPRoute; None: it does not exist.
        unavailable: why nothing is known of it.
        served: whether the API server has such a kind.
    """
    if raw is None or unavailable:
        return ObservedRoute(name, unavailable=unavailable, served=served)
    metadata = raw["metadata"]
    changed = metadata.get(CHANGED_AT)
    return ObservedRoute(
        name=name,
        namespace=metadata["namespace"],
        uid=metadata["uid"],
        deleting="deletionTimestamp" in metadata,
        backends=tuple(_backends((raw.get("spec") or {}).get("rules") or [])),
        changed_by=str(metadata.get(CHANGED_BY) or ""),
        changed_at=moment(changed) if changed else None,
    )


def _backends(rules: Iterable[Raw]) -> Iterable[Backend]:
    """Read the Services of all rules; other kinds of backends are never ours."""
    for rule, content in enumerate(rules):
        for index, each in enumerate(content.get("backendRefs") or []):
            if (each.get("group") or "", each.get("kind") or "Service") == ("", "Service"):
                yield Backend(
                    rule=rule,
                    index=index,
                    name=str(each["name"]),
                    weight=int(each.get("weight", 1)),
                    namespace=str(each.get("namespace") or ""),
                    port=each.get("port"),
                )


def observed_service(raw: Raw) -> ObservedService:
    """Read a Service."""
    metadata, spec = raw["metadata"], raw.get("spec") or {}
    chosen = spec.get("selector") or {}
    named = spec.get("type") != "ExternalName" and chosen
    return ObservedService(
        name=metadata["name"],
        selector=Selector(tuple(sorted(chosen.items()))) if named else None,
        ports=tuple(map(_port, spec.get("ports") or [])),
        update=str((metadata.get("labels") or {}).get(names.LABEL_UPDATE, "")),
    )


def _port(port: Raw) -> str:
    name = f"{port['name']} " if port.get("name") else ""
    leads = port.get("targetPort", port["port"])
    return f"{name}{port['port']}/{port.get('protocol', 'TCP')} to {leads}"


def observed_budget(raw: Raw) -> ObservedBudget:
    """Read a PodDisruptionBudget; an empty selector selects all pods of the namespace."""
    chosen = (raw.get("spec") or {}).get("selector")
    return ObservedBudget(raw["metadata"]["name"], None if chosen is None else selector_of(chosen))


def selector_of(raw: Raw) -> Selector:
    """Read a label selector."""
    requirements = (
        Requirement(str(each["key"]), str(each["operator"]), frozenset(each.get("values") or []))
        for each in raw.get("matchExpressions") or []
    )
    labels = tuple(sorted((raw.get("matchLabels") or {}).items()))
    return Selector(labels, tuple(requirements))


def ready_endpoints(slices: Iterable[Raw]) -> int:
    """Count the pods that the EndpointSlices of a Service report as ready, each once."""
    ready = set()
    for each in slices:
        for endpoint in each.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready", True):
                pod = (endpoint.get("targetRef") or {}).get("uid")
                ready.add(pod or tuple(endpoint.get("addresses") or []))
    return len(ready)
