"""The accuracy of hidden tokens, as a function of entity weights: each token counts the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.tasks.metrics.statistic import UNDEFINED, EncodedRows, Statistic, quotient

if TYPE_CHECKING:
    from springtide_trainer.tasks.metrics.statistic import Array


def accuracy(rows: EncodedRows, predictions: Array) -> Statistic:
    """Prepare the share of hidden tokens that are the most probable ones.

    Args:
        rows: The first label of a row is the number of its hidden tokens.
        predictions: float [rows, 2]; the second one is the share of these that are right.
    """
    found = np.asarray(predictions, dtype=np.float64)[:, 1]
    tokens = np.asarray(rows.label, dtype=np.float64)[:, 0]
    if not tokens.sum() or not np.isfinite(found).all():
        return UNDEFINED
    right = np.bincount(rows.entity, weights=found * tokens)
    return quotient(right, np.bincount(rows.entity, weights=tokens), within_one=True)


def of_most_frequent(rows: EncodedRows) -> float:
    """Return the accuracy of the one token that is hidden most often in these rows.

    Args:
        rows: The labels of a row are the number of its hidden tokens, the sum of their negative
            log frequencies, and how many of them are that token.
    """
    if not len(rows.label):
        return float("nan")
    tokens, _, most = np.asarray(rows.label, dtype=np.float64).sum(axis=0)
    return float(most / tokens) if tokens else float("nan")
