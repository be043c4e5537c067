"""The writes that make the canaries what a step asks for: all of them in one plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.names import canary_name
from springtide_operator.lifecycle.canary.canaries import canary_of
from springtide_operator.lifecycle.canary.deployment import canary_deployment
from springtide_operator.lifecycle.canary.gateway import pods_wanted, service_to_create
from springtide_operator.lifecycle.rollout.availability import is_outdated
from springtide_operator.lifecycle.state.plan import DeleteCanary

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
        if is_outdated(generation, target, canary):
            return f"the pod template of Deployment {name} was changed"
    return ""


def is_replaced(
    generation: ModelGeneration, target: ObservedTarget, canary: ObservedCanary | None
) -> bool:
    """Whether the pods of a canary are not there, or are replaced by the next write."""
    if canary is None or canary.deployment.deleting or canary.edited_by:
        return True
    return is_outdated(generation, target, canary)


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
        replicas = pods_wanted(seen, target, generation.status.rollout.weight or 1)
        as_wanted = canary is not None and canary.deployment.desired == replicas
        if canary is None or not as_wanted or is_outdated(generation, target, canary):
            writes.append(canary_deployment(seen, generation, target, replicas))
    return tuple(writes)
