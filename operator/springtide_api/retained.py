"""What a training reports of its rows and weights: for the status, and for the report."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from springtide_api.schema import Line, Model, Time, Word

if TYPE_CHECKING:
    from collections.abc import Mapping

ALPHA = "alpha"
"""The metric with the alpha that was chosen."""
VALIDATION_OF_ALPHA = "validation_alpha_"
"""Prefix of the metrics with the value of each alpha on the validation split."""
SPARSITY = "sparsity"
"""The metric with the fraction of pruned weights that was reached."""
Rows = Annotated[int, Field(ge=0, le=2**53)]


class Replayed(Model):
    """Rows of the parent's buffer that were trained on again."""

    rows: Rows = 0
    """Including those of the validation split."""
    classes: Annotated[dict[Word, Rows], Field(max_length=256)] = {}
    """Rows of each class, the fewest first."""
    slices: Annotated[dict[Word, Rows], Field(max_length=256)] = {}
    """Rows of each slice, the fewest first; of more than 256 slices, those with the fewest."""
    median: Time | None = None
    """Median of the timestamps; None without halfLife."""
    message: Line = ""
    """Why there are fewer rows than asked for; empty if there are not."""


class PseudoLabelled(Model):
    """Training rows without a label that the parent labelled."""

    offered: Rows = 0
    """Training rows without a label, but for those of weight 0 and of entities in the validation
    split."""
    used: Rows = 0
    """Those that were trained on."""
    classes: Annotated[dict[Word, Rows], Field(max_length=256)] = {}
    """Used rows of each label that the parent knows."""
    message: Line = ""
    """Why no row was labelled; empty if some could be."""


class Retained(Model):
    """What the report says of retention, pruning and pseudo-labels."""

    replay: Replayed | None = None
    alpha: float | None = None
    """The alpha that was chosen; None without interpolation."""
    alphas: dict[Word, float] = {}
    """Value of each alpha on the validation split."""
    sparsity: float | None = None
    """The fraction of the weights of linear layers that is zero; None without pruning."""
    pseudo_labels: PseudoLabelled | None = None

    @staticmethod
    def of(
        replay: Replayed | None,
        metrics: Mapping[str, float],
        pseudo_labels: PseudoLabelled | None = None,
    ) -> Retained | None:
        """Collect it from the metrics of a training; None if there is nothing to say."""
        found = {
            name.removeprefix(VALIDATION_OF_ALPHA): value
            for name, value in metrics.items()
            if name.startswith(VALIDATION_OF_ALPHA) and isfinite(value)
        }
        sparsity = metrics.get(SPARSITY)
        if sparsity is not None and not isfinite(sparsity):
            sparsity = None
        if not found and all(each is None for each in (replay, sparsity, pseudo_labels)):
            return None
        return Retained(
            replay=replay,
            alpha=metrics.get(ALPHA),
            alphas=found,
            sparsity=sparsity,
            pseudo_labels=pseudo_labels,
        )
