"""Which reads an observation needs beyond the watched objects.

Decided from spec and generations alone: reads cost the API server, and their result matters only in
some phases of the lifecycle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    update: IncrementalUpdate, generations: Sequence[ModelGeneration]
) -> tuple[Target, ...]:
    """Targets with an HTTPRoute: where a record may lead to a canary, then those of the spec."""
    recorded = [
        each.declared()
        for generation in generations
        if rolling(generation) or holds_back(generation)
        for each in generation.status.rollout.targets
        if each.route
    ]
    named = {each.target_ref.name for each in recorded}
    declared = (each for each in update.spec.rollout.targets if each.http_route)
    return (*recorded, *(each for each in declared if each.target_ref.name not in named))


def needs_services(update: IncrementalUpdate, generations: Sequence[ModelGeneration]) -> bool:
    """Whether the Services beside a route are needed: a canary runs, or may begin now."""
    if keeps_previous(update, generations):
        return True
    return any(rolling(each) or (servable(each) and not finished(each)) for each in generations)
