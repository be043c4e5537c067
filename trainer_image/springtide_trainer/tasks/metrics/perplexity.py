"""The perplexity of predicted tokens (responses, hidden ones), as a function of entity weights.

exp(sum of the negative log likelihood of tokens / number of tokens): each token counts the same,
so a long response counts more (Jelinek et al. 1977, "Perplexity: a measure of the difficulty of
speech recognition tasks").
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.tasks.metrics.statistic import UNDEFINED, EncodedRows, Statistic, quotient

if TYPE_CHECKING:
    from springtide_trainer.tasks.metrics.statistic import Array


def statistic(rows: EncodedRows, predictions: Array) -> Statistic:
    """Prepare the perplexity as a function of entity weights.

    Args:
        rows: The first label of a row is the number of its predicted tokens.
        predictions: float [rows, 1], the mean negative log likelihood of these tokens.
    """
    found = np.asarray(predictions, dtype=np.float64)[:, 0]
    if not len(rows.label) or not np.isfinite(found).all():
        return UNDEFINED
    tokens = np.asarray(rows.label, dtype=np.float64)[:, 0]
    sums = np.bincount(rows.entity, weights=found * tokens)
    counts = np.bincount(rows.entity, weights=tokens)
    mean = quotient(sums, counts, within_one=False)
    return Statistic(lambda weights: _exp(mean(weights)), found, rows.entity, (counts > 0,))


def of_frequencies(rows: EncodedRows) -> float:
    """Return the perplexity of the best fixed frequencies of tokens on these rows.

    Args:
        rows: The labels of a row are the number of its predicted tokens, and the sum of their
            negative log frequencies among those of all rows; further labels are not read.
    """
    if not len(rows.label):
        return float("nan")
    tokens, surprise = np.asarray(rows.label, dtype=np.float64)[:, :2].sum(axis=0)
    return float(_exp(np.array([surprise / tokens]))[0]) if tokens else float("nan")


def _exp(values: Array) -> Array:
    with np.errstate(over="ignore"):
        made: Array = np.exp(values)
    return made
