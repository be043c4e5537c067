"""The generation that `maxCumulativeRegression` compares with: small losses must not add up.

Each generation may be worse than the one before it by a margin. The reference stays the same
meanwhile, and changes only to a generation that was proven better than the one before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.generation.spec import Ancestor

if TYPE_CHECKING:
    from springtide_api.generation.spec import Recipe
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation


def reference(seen: Observation, made_from: Recipe) -> ModelGeneration | None:
    """Return the promoted generation that a new candidate is compared with.

    Args:
        seen: The update.
        made_from: Says which rules ask for it, and whether it is pinned.

    Returns:
        The pinned generation; else the newest that was proven better than live by each metric of
        such a rule; else the oldest that is known. None where no rule asks, nothing is live, or
        the pinned one was never promoted.
    """
    rules = [rule for rule in made_from.gate.rules if rule.max_cumulative_regression]
    promoted = [g for g in seen.lineage.promoted if g.status.artifact]
    if not rules or not promoted:
        return None
    pinned = made_from.evaluation.reference and made_from.evaluation.reference.generation
    if pinned is not None:
        return next((g for g in promoted if g.spec.number == pinned), None)
    asked = {(rule.metric, rule.dataset) for rule in rules}
    return next((g for g in promoted if asked <= _won(g)), promoted[-1])


def as_ancestor(generation: ModelGeneration | None) -> Ancestor | None:
    """Name a generation by its weights."""
    if generation is None or generation.status.artifact is None:
        return None
    digest = generation.status.artifact.weights_digest
    return Ancestor(name=generation.metadata.name, digest=digest)


def _won(generation: ModelGeneration) -> set[tuple[str, str]]:
    """List metrics and datasets by which it was proven better than the live model then."""
    evaluation = generation.status.evaluation
    results = evaluation.results if evaluation else []
    return {(result.metric, result.dataset) for result in results if result.superior}
