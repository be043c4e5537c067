"""Losses of Classification, beside the cross entropy, and the weights of its classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from springtide_api.update.task import ClassificationOptions

SMALLEST = 1e-9
"""A smaller 1 - probability counts as this: its root has no gradient at 0."""


def gamma_of(options: ClassificationOptions | None) -> float:
    """Return gamma of the focal loss; 0, which is the cross entropy, without one."""
    loss = options.loss if options else None
    return float(loss.focal.gamma) if loss and loss.focal else 0.0


def focal(cross_entropies: Tensor, gamma: float) -> Tensor:
    """Multiply each cross entropy by (1 - p) ** gamma, p = exp(-cross entropy) (Lin et al. 2017).

    Args:
        cross_entropies: [...], at least 0.
        gamma: 0 returns them as they are.
    """
    if gamma == 0:
        return cross_entropies
    missing = -(-cross_entropies).expm1()  # 1 - p, exact also where p is almost 1
    return missing.clamp(min=SMALLEST) ** gamma * cross_entropies


def balanced(
    labels: NDArray[np.int64], weights: NDArray[np.float32], rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return weights by which each label of the training rows has the same sum.

    The factor of a label is (sum of weights) / (number of labels * its sum), as "balanced" of
    scikit-learn with sample weights, so the mean over the rows stays the same.

    Args:
        labels: int64 [all rows].
        weights: float32 [all rows].
        rows: Indices of the training rows; the others keep their weights.
    """
    sums = np.bincount(labels[rows], weights[rows])
    present = np.count_nonzero(sums)
    factors = np.divide(sums.sum(), present * sums, out=np.ones_like(sums), where=sums > 0)
    found = weights.copy()
    found[rows] = (weights[rows] * factors[labels[rows]]).astype(np.float32)
    return found
