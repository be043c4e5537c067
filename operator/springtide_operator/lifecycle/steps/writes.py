"""The writes that make the canaries what a step asks for: all of them in one plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.names import canary_name
from springtide_operator.lifecycle.canary.canaries import canary_of
from springtide_operator.lifecycle.canary.gateway import (
    dropped_keys,
    pods_wanted,
    route_of,
    selector_labels,
    service_to_create,
)
from springtide_operator.lifecycle.rollout.availability import not_serving
from springtide_operator.lifecycle.state.plan import ApplyCanary, DeleteCanary, Serving

if TYPE_CHECKING:
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedCanary, ObservedTarget
    from springtide_operator.lifecycle.state.plan import Action


def why_replaced(seen: Observation, generation: ModelGeneration) -> str:
    """Why canary pods are created or replaced, other than for a new number; empty: they are not."""
    for target in seen.targets:
        canary, name = canary_of(seen, target), target.target.target_ref.name
        if canary is None:
            return f"Deployment {canary_name(name)} does not exist"
        if canary.deployment.deleting:
            return f"Deployment {canary.name} is being deleted"
        if canary.edited_by:
            return f"{canary.edited_by} changed the pod template of Deployment {canary.name}"
        if _is_outdated(generation, target, canary):
            return f"the pod template of Deployment {name} was changed"
    return ""


def is_replaced(
    generation: ModelGeneration, target: ObservedTarget, canary: ObservedCanary | None
) -> bool:
    """Whether the pods of a canary are not there, or are replaced by the next write."""
    if canary is None or canary.deployment.deleting or canary.edited_by:
        return True
    return _is_outdated(generation, target, canary)


def canary_writes(seen: Observation, generation: ModelGeneration) -> tuple[Action, ...]:
    """What must be written now; a canary that a user edited is deleted and created again."""
    writes: list[Action] = []
    for target in seen.targets:
        canary = canary_of(seen, target)
        if canary and canary.deployment.deleting:
            continue
        if canary and canary.edited_by:
            writes.append(DeleteCanary(canary.name, canary.deployment.uid))
            continue
        if service := service_to_create(seen, target):
            writes.append(service)
        wanted = _apply(seen, generation, target, canary)
        as_wanted = canary is not None and canary.deployment.desired == wanted.replicas
        if canary is None or not as_wanted or _is_outdated(generation, target, canary):
            writes.append(wanted)
    return tuple(writes)


def _apply(
    seen: Observation,
    generation: ModelGeneration,
    target: ObservedTarget,
    canary: ObservedCanary | None,
) -> ApplyCanary:
    name, route = target.target.target_ref.name, route_of(seen, target)
    routing, artifact = seen.routings.get(name), generation.status.artifact
    assert artifact is not None
    return ApplyCanary(
        name=canary_name(name),
        target=target.target,
        target_uid=target.uid,
        template=target.template or "",
        serving=Serving(generation.spec.number, artifact.served_digest, artifact.uri),
        replicas=pods_wanted(seen, target, generation.status.rollout.weight or 1),
        uid=canary.deployment.uid if canary else "",
        dropped_labels=dropped_keys(routing, route.service) if route and routing else frozenset(),
        selector=tuple(selector_labels(target).items()) if route else (),
    )


def _is_outdated(
    generation: ModelGeneration, target: ObservedTarget, canary: ObservedCanary
) -> bool:
    """Whether a canary runs something else than the target's template with this generation."""
    behind = bool(not_serving(generation, [canary.deployment]))
    return behind or canary.made_from != (target.template or "")
