"""Ranking metrics: AUC and average precision as functions of entity weights, NDCG per group.

Rows are sorted once. A resample then takes one cumulative sum over the rows, because weights do not
change the order of the rows but only the counts above a row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.tasks.metrics.statistic import ratio

if TYPE_CHECKING:
    from springtide_trainer.tasks.metrics.statistic import Array, Function


class RankedScores:
    """Rows sorted by descending score; rows of equal score are one step.

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
        """Return cumulative weights: [samples, rows + 1] and [samples, positives + 1]."""
        return _running(weights, self.entity), _running(weights, self.hits)


def roc_auc(entity: Array, positive: Array, score: Array) -> Function:
    """Prepare the area under the ROC curve: the share of pairs with the positive ranked higher."""
    order = RankedScores(entity, positive, score)

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
    """Prepare the average precision: the mean of the precision at each positive."""
    order = RankedScores(entity, positive, score)

    def precision(weights: Array) -> Array:
        rows, hits = order.sums(weights)
        through = rows[:, order.through]
        share = hits[:, order.hits_through] / np.maximum(through, 1)
        above = np.einsum("ij,ij->i", np.diff(hits, axis=1), share)
        return ratio(above, hits[:, -1].astype(np.float64))

    return precision


def ndcg(group: Array, gain: Array, score: Array, *, k: int) -> Array:
    """Compute NDCG at k of each group, with linear gain.

    Equal scores are ordered by a fixed key of the row that is independent of its label.

    Args:
        group: int [rows]: the group, 0 to groups - 1.
        gain: float [rows]: relevance, 0 for irrelevant rows.
        score: float [rows].
        k: Number of top positions that count.

    Returns:
        float [groups]; NaN for a group without a relevant row.
    """
    ties = tie_break_keys(len(group))
    found = _discounted(group, gain, np.lexsort((ties, -score, group)), k)
    return ratio(found, ideal_gains(group, gain, k))


def ideal_gains(group: Array, gain: Array, k: int) -> Array:
    """Return the ideal DCG of each group."""
    return _discounted(group, gain, np.lexsort((-gain, group)), k)


def tie_break_keys(count: int) -> Array:
    """Return a pseudo-random key per row: the SplitMix64 finalizer (Steele et al. 2014)."""
    key = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return key ^ (key >> np.uint64(31))


def _discounted(group: Array, gain: Array, order: Array, k: int) -> Array:
    """Return the DCG of each group: the sum of its first k gains over log2(rank + 1)."""
    lists = group[order]
    starts = np.searchsorted(lists, np.arange(lists[-1] + 1))
    place = np.arange(len(lists)) - starts[lists]
    worth = np.where(place < k, gain[order] / np.log2(place + 2), 0.0)
    return np.bincount(lists, weights=worth)


def _running(weights: Array, entity: Array) -> Array:
    sums = np.zeros((len(weights), len(entity) + 1), dtype=np.int32)
    np.cumsum(weights[:, entity], axis=1, dtype=np.int32, out=sums[:, 1:])
    return sums
