"""Metrics of an order: AUC and average precision under any entity weights, NDCG of each list.

Rows are sorted once. A resample then costs one running sum over the rows, read off at the
positives: of all that weights do to an order, only the counts above a row change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, np.dtype[Any]]
    Function = Callable[[Array], Array]


class Order:
    """Rows from the highest score to the lowest; equal scores are one step.

    Args:
        entity: int [rows].
        positive: bool [rows].
        score: float [rows].
    """

    def __init__(self, entity: Array, positive: Array, score: Array) -> None:
        order = np.argsort(-score, kind="stable")
        ordered, hit = score[order], positive[order]
        new = np.append(True, ordered[1:] != ordered[:-1])
        starts = np.append(np.flatnonzero(new), len(order))
        step = (np.cumsum(new) - 1)[hit]
        hits_before = np.append(0, np.cumsum(hit))
        self.entity, self.hits = entity[order], entity[order][hit]
        self.before, self.through = starts[step], starts[step + 1]
        self.hits_before, self.hits_through = hits_before[self.before], hits_before[self.through]

    def sums(self, weights: Array) -> tuple[Array, Array]:
        """Return running sums of weights: [samples, rows + 1] and [samples, positives + 1]."""
        return _running(weights, self.entity), _running(weights, self.hits)


def area(entity: Array, positive: Array, score: Array) -> Function:
    """Prepare the area under the ROC curve: how often a positive lies above a negative."""
    order = Order(entity, positive, score)

    def auc(weights: Array) -> Array:
        rows, hits = order.sums(weights)
        both = rows[:, order.before] + rows[:, order.through]
        both -= hits[:, order.hits_before] + hits[:, order.hits_through]
        total = hits[:, -1].astype(np.float64)
        negatives = rows[:, -1] - total
        above = np.einsum("ij,ij->i", np.diff(hits, axis=1), both, dtype=np.float64) / 2
        pairs = total * negatives
        return ratio(pairs - above, pairs)

    return auc


def average_precision(entity: Array, positive: Array, score: Array) -> Function:
    """Prepare the average precision: the precision at each positive, averaged."""
    order = Order(entity, positive, score)

    def precision(weights: Array) -> Array:
        rows, hits = order.sums(weights)
        through = rows[:, order.through]
        share = hits[:, order.hits_through] / np.maximum(through, 1)
        above = np.einsum("ij,ij->i", np.diff(hits, axis=1), share)
        return ratio(above, hits[:, -1].astype(np.float64))

    return precision


def ndcg(group: Array, gain: Array, score: Array, *, k: int) -> Array:
    """Compute NDCG at k of each list, with linear gain.

    Equal scores are ordered by a key that is fixed for a row and knows nothing of its label.

    Args:
        group: int [rows]: the list, 0 to lists - 1.
        gain: float [rows]: relevance, 0 is irrelevant.
        score: float [rows].
        k: Places that count.

    Returns:
        float [lists]; NaN for a list without a relevant row.
    """
    ties = scrambled(len(group))
    found = _discounted(group, gain, np.lexsort((ties, -score, group)), k)
    return ratio(found, ideal_gains(group, gain, k))


def ideal_gains(group: Array, gain: Array, k: int) -> Array:
    """Sum the discounted gains of each list's best order."""
    return _discounted(group, gain, np.lexsort((-gain, group)), k)


def scrambled(count: int) -> Array:
    """Give each row a key: the finaliser of SplitMix64 (Steele et al. 2014) of its number."""
    key = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


def _discounted(group: Array, gain: Array, order: Array, k: int) -> Array:
    """Sum the gains of each list's first k rows, each over log2(place + 1)."""
    lists = group[order]
    starts = np.searchsorted(lists, np.arange(lists[-1] + 1))
    place = np.arange(len(lists)) - starts[lists]
    worth = np.where(place < k, gain[order] / np.log2(place + 2), 0.0)
    return np.bincount(lists, weights=worth)


def _running(weights: Array, entity: Array) -> Array:
    sums = np.zeros((len(weights), len(entity) + 1), dtype=np.int32)
    np.cumsum(weights[:, entity], axis=1, dtype=np.int32, out=sums[:, 1:])
    return sums


def ratio(above: Array, below: Array) -> Array:
    """Divide; NaN where there is nothing to divide by."""
    made = np.full(above.shape, np.nan)
    np.divide(above, below, out=made, where=below > 0)
    return made
