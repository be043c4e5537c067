"""Predicates on one generation: servable, finished, rolling out, of another version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.generation import status_values
from springtide_api.generation.spec import MAX_EXCLUDED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from springtide_api.objects import ModelGeneration

ORPHANED = "Orphaned"

SPEC_CHANGED = "SpecChanged"
"""It waited for pods that the spec no longer requires, and failed before it ran."""

BY_REQUEST = "RejectedByRequest"


def servable(generation: ModelGeneration) -> bool:
    """Whether it may be served: it passed the gate, or was imported with a trained head."""
    status = generation.status
    if status.artifact is None or status.rollout.rollback_reason or status.retired_reason:
        return False
    if generation.spec.origin == "Imported":
        return status.artifact.head == "Trained" and status.verdict != "Failed"
    return status.verdict == "Accepted"


def finished(generation: ModelGeneration) -> bool:
    """Whether nothing more happens to it without a user."""
    status = generation.status
    if status.rollout.rollback_reason:
        return status.rollout.rolled_back_at is not None
    if status.rollout.promoted_at or status.retired_reason:
        return True
    if generation.spec.origin == "Imported" and status.artifact:
        return status.artifact.head == "Seeded"
    return status.verdict in {"Rejected", "Failed"}


def unknown_value(generation: ModelGeneration) -> str:
    """The field and value of a generation's status that this version does not know, if any."""
    status = generation.status
    evaluation = status.evaluation
    holdouts = evaluation.holdouts if evaluation else []
    known = [
        ("verdict", status.verdict, status_values.VERDICTS),
        ("outcome", status.outcome, status_values.OUTCOMES),
        ("phase", status.phase, status_values.GENERATION_PHASES),
        *(("holdout's outcome", each.outcome, status_values.HOLDOUT_OUTCOMES) for each in holdouts),
    ]
    return next((f"{field} {value!r}" for field, value, there in known if value not in there), "")


def rolling(generation: ModelGeneration) -> bool:
    """Whether it is rolling out or rolling back, after its promotion included."""
    rollout = generation.status.rollout
    if rollout.step_started_at is None or rollout.rolled_back_at is not None:
        return False
    return bool(rollout.rollback_reason) or rollout.promoted_at is None


def promoted(generation: ModelGeneration) -> bool:
    """Whether it was promoted and no rollback was decided since."""
    rollout = generation.status.rollout
    return rollout.promoted_at is not None and not rollout.rollback_reason


def never_served_again(generations: Iterable[ModelGeneration]) -> frozenset[str]:
    """Digests of the generations that were rolled back, or that are being rolled back.

    Not of those whose rollout failed for a cause that is not their own.
    """
    rollouts = ((g.status.rollout, g.status.artifact) for g in generations)
    back = (made for rollout, made in rollouts if rollout.rollback_reason and not rollout.failure)
    return frozenset(artifact.served_digest for artifact in back if artifact)


def excluded_generations(generations: Iterable[ModelGeneration]) -> tuple[int, ...]:
    """Numbers of the generations that were rolled back, or that are being rolled back.

    Rows that they served are no training rows. A later run recorded those that are deleted.
    """
    found: set[int] = set()
    for generation in generations:
        rollout, data = generation.status.rollout, generation.spec.data
        if rollout.rollback_reason and not rollout.failure:
            found.add(generation.spec.number)
        found |= {*data.excluded_generations} if data else set()
    return tuple(sorted(found)[-MAX_EXCLUDED:])


def rollback_outcome(generation: ModelGeneration) -> str:
    """The outcome of a generation once its rollback is complete."""
    return "RolloutFailed" if generation.status.rollout.failure else "RolledBack"


def rolled_back_parent(
    generation: ModelGeneration, generations: Iterable[ModelGeneration]
) -> ModelGeneration | None:
    """The parent of a generation, if that was rolled back since."""
    parent = generation.spec.parent
    if parent is None:
        return None
    found = (g for g in generations if g.metadata.name == parent.name)
    return next((g for g in found if g.status.rollout.rollback_reason), None)


def bakes(generation: ModelGeneration) -> bool:
    """Whether it is watched after its promotion, and that has not ended."""
    rollout = generation.status.rollout
    return rollout.bake_until is not None and rollout.baked_at is None


def baking(live: ModelGeneration | None) -> ModelGeneration | None:
    """The live generation, if it bakes; one of another version is not watched."""
    return live if live and bakes(live) and not unknown_value(live) else None


def holds_back(generation: ModelGeneration) -> bool:
    """Whether a route may give requests to the generation before, as this one bakes or baked."""
    routes = (each.route for each in generation.status.rollout.targets)
    given = any(route and (route.weight or route.withdrawn_at is None) for route in routes)
    return given and promoted(generation)


def referenced_rows(generations: Iterable[ModelGeneration]) -> set[str]:
    """Folders of frozen rows that these generations are trained and evaluated on."""
    named: set[str] = set()
    for generation in generations:
        if data := generation.spec.data:
            named |= {*data.historical, data.manifest or ""}
        if evaluation := generation.status.evaluation:
            named |= {holdout.manifest for holdout in evaluation.holdouts}
    return named - {""}


def referenced_artifacts(generations: Iterable[ModelGeneration]) -> set[str]:
    """Digests of weights, served forms, adapters, their bases and Fisher information.

    Of an unfinished generation, those that its training takes over too.
    """
    named: set[str] = set()
    for generation in generations:
        artifact, continuation = generation.status.artifact, generation.spec.continuation
        adapters = [artifact.adapter if artifact else None]
        if continuation and not finished(generation):
            adapters.append(continuation.adapter)
        named |= {artifact.weights_digest, artifact.served_digest} if artifact else set()
        named |= {artifact.fisher} if artifact and artifact.fisher else set()
        if (data := generation.spec.data) and data.fisher and not finished(generation):
            named.add(data.fisher)
        for adapter in filter(None, adapters):
            named |= {adapter.digest, adapter.base}
    return named


def referenced_buffers(generations: Iterable[ModelGeneration]) -> set[str]:
    """Folders of the replay buffers that these generations left, or are being trained with."""
    named: set[str] = set()
    for generation in generations:
        artifact, data = generation.status.artifact, generation.spec.data
        if artifact and artifact.buffer:
            named.add(artifact.buffer.uri)
        if data and data.buffer and not finished(generation):
            named.add(data.buffer.uri)
    return named
