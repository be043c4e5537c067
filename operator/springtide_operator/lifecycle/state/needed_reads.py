"""Which reads an observation needs beyond the watched objects.

Decided from spec and generations alone: reads cost the API server, and their result matters only in
some phases of the lifecycle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.names import canary_name
from springtide_api.update.rollout import TargetRef
from springtide_operator.lifecycle.state.generations import (
    bakes,
    finished,
    holds_back,
    promoted,
    rolling,
    servable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_api.objects import IncrementalUpdate, ModelGeneration
    from springtide_api.update.rollout import Target
    from springtide_operator.lifecycle.state.observed import ObservedCanary

LEAST_KEPT = 2
"""Live and previous are never deleted."""


def needs_canaries(update: IncrementalUpdate, generations: Sequence[ModelGeneration]) -> bool:
    """Whether Deployments with the names of canaries are needed, also those without our labels."""
    if update.spec.rollout.strategy.canary is None:
        return False
    if keeps_previous(update, generations):
        return True
    return any(servable(g) and not finished(g) for g in generations)


def keeps_previous(update: IncrementalUpdate, generations: Sequence[ModelGeneration]) -> bool:
    """Whether pods of a previous generation are kept: a bake that was rolled back is over."""
    rollout = update.spec.rollout
    wanted = rollout.rollback.keep_warm or (rollout.bake and rollout.bake.holdback)
    return bool(wanted) and any(promoted(each) and bakes(each) for each in generations)


def needs_replica_sets(update: IncrementalUpdate, generations: Sequence[ModelGeneration]) -> bool:
    """Whether the ReplicaSets of targets are needed.

    In a rollout they show whether a target ever ran the candidate. Before weights are deleted
    they show what `kubectl rollout undo` may restore.
    """
    if any(rolling(generation) for generation in generations):
        return True
    history = update.spec.history
    kept = [g for g in generations if promoted(g)]
    others = [
        g for g in generations if not promoted(g) and g.spec.origin == "Trained" and finished(g)
    ]
    most = max(history.generations, LEAST_KEPT)
    return len(kept) > most or len(others) > history.rejected


def routed_targets(
    update: IncrementalUpdate,
    generations: Sequence[ModelGeneration],
    canaries: Sequence[ObservedCanary],
) -> tuple[Target, ...]:
    """Targets with an HTTPRoute, each with one: of its record, of its canary, or of the spec.

    A canary whose record was deleted has its requests by the route that it was created with,
    whatever the spec names by then.
    """
    recorded = [
        each.declared()
        for generation in generations
        if rolling(generation) or holds_back(generation)
        for each in generation.status.rollout.targets
        if each.route
    ]
    declared = [each for each in update.spec.rollout.targets if each.http_route]
    left = [_target_of(each) for each in canaries if each.ours and each.route and _is_named(each)]
    found: dict[str, Target] = {}
    for target in (*recorded, *left, *declared):
        found.setdefault(target.target_ref.name, target)
    return tuple(found.values())


def _is_named(canary: ObservedCanary) -> bool:
    """Whether it has the name of its target's canary: a client may write any annotation."""
    return bool(canary.of) and canary_name(canary.of) == canary.name


def _target_of(canary: ObservedCanary) -> Target:
    """The target of a canary, as it was when the canary was made."""
    reference = TargetRef(name=canary.of)
    way = {"target_ref": reference, "service": canary.service, "http_route": canary.route}
    return canary.deployment.target.model_copy(update=way)


def needs_services(update: IncrementalUpdate, generations: Sequence[ModelGeneration]) -> bool:
    """Whether the Services beside a route are needed: a canary runs, or may begin now."""
    if keeps_previous(update, generations):
        return True
    return any(rolling(each) or (servable(each) and not finished(each)) for each in generations)
