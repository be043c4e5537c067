"""A candidate with the weights of the live model: rejected before it is scored.

Equal models have equal scores on any rows, so no longer holdout would decide between them, and a
candidate that waits for one holds up every later run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.update.task import EARLY_STOPPING_METRIC

if TYPE_CHECKING:
    from collections.abc import Mapping

    from springtide_api.generation.spec import Recipe

SAME_WEIGHTS = "SameWeights"
"""Reason of the verdict."""


def same_weights(
    candidate: str, baseline: str | None, *, recipe: Recipe, metrics: Mapping[str, float]
) -> str | None:
    """Return the message of the verdict; None if the weights differ, or if there is no live model.

    Args:
        candidate: Digest of the candidate.
        baseline: Digest of the live model, if there is one.
        recipe: How the candidate was trained.
        metrics: What its training measured.
    """
    if candidate != baseline:
        return None
    why = kept_start(recipe, metrics) or "training did not change them"
    return f"the candidate has the weights of the live model, so it was not evaluated: {why}"


def kept_start(recipe: Recipe, metrics: Mapping[str, float]) -> str:
    """Describe that early stopping kept the weights of step 0; empty if it did not."""
    stopping = recipe.training.early_stopping
    if stopping is None or metrics.get("best_step") != 0:
        return ""
    metric = stopping.metric or EARLY_STOPPING_METRIC[recipe.model.task]
    value = f", {metrics['validation']:.4g} at step 0" if "validation" in metrics else ""
    return (
        f"early stopping kept the weights of step 0, because no step improved {metric} on the "
        f"validation split{value}"
    )
