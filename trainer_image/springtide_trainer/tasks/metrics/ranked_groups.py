"""Metrics of ranked groups: each is computed per group and averaged over groups.

Groups without a relevant row are dropped, for all models alike. Rows of equal score are ordered by
a fixed key that is independent of their label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.tasks.metrics.ranking import ideal_gains, ndcg, tie_break_keys
from springtide_trainer.tasks.metrics.statistic import UNDEFINED, quotient, ratio

if TYPE_CHECKING:
    from springtide_trainer.tasks.metrics.statistic import Array, EncodedRows, Statistic

ALL = 1 << 30
"""Number of top positions that count for a metric without @k."""


def statistic(metric: str, rows: EncodedRows, gain: Array, score: Array) -> Statistic:
    """Prepare the average of a metric over groups; a group belongs to the entity of its first row.

    Args:
        metric: ndcg@<k>, mrr, mrr@<k> or map.
        rows: Entities and groups; their labels are not used.
        gain: float [rows]: relevance, 0 for irrelevant rows.
        score: float [rows].
    """
    if rows.group is None or not len(gain) or not np.isfinite(score).all():
        return UNDEFINED
    return over_groups(rows, values(metric, rows.group, gain, score))


def over_groups(rows: EncodedRows, found: Array, *, within_one: bool = True) -> Statistic:
    """Average a value over groups, NaN for groups to drop: float [groups]."""
    assert rows.group is not None
    first = np.unique(rows.group, return_index=True)[1]
    kept = ~np.isnan(found)
    if not kept.any():
        return UNDEFINED
    size = rows.entities
    output_entity = rows.entity[first][kept]
    sums = np.bincount(output_entity, weights=found[kept], minlength=size)
    counts = np.bincount(output_entity, minlength=size).astype(np.float64)
    return quotient(sums, counts, within_one=within_one)


def values(metric: str, group: Array, gain: Array, score: Array) -> Array:
    """Compute a metric of each group: float [groups], NaN for a group without a relevant row."""
    name, k = _named(metric)
    if name == "ndcg":
        return ndcg(group, gain, score, k=k)
    order = np.lexsort((tie_break_keys(len(group)), -score, group))
    relevant = gain[order] > 0
    lists, place = group[order], _places(group[order])
    if name == "mrr":
        return _reciprocal_rank(lists, place, relevant, k)
    return _average_precision(lists, place, relevant)


def random_order(metric: str, group: Array | None, gain: Array) -> float:
    """Return the expected value of a random order, averaged over groups with a relevant row.

    NaN without such a group, or without groups.
    """
    if group is None or not len(group):
        return float("nan")
    name, k = _named(metric)
    length = np.bincount(group).astype(np.int64)
    if name == "ndcg":
        expected = _random_ndcg(group, gain, length, k)
    else:
        relevant = np.bincount(group, weights=gain > 0).astype(np.int64)
        shapes, shape = np.unique(np.stack([length, relevant], axis=1), axis=0, return_inverse=True)
        of_shape = np.array([_random_shape(name, int(n), int(hits), k) for n, hits in shapes])
        expected = of_shape[shape.ravel()]
    known = expected[~np.isnan(expected)]
    return float(known.mean()) if len(known) else float("nan")


def random_order_precision(positives: int, rows: int) -> float:
    """Return the expected average precision of a random order (Bestgen 2015)."""
    if rows < 2:
        return 1.0
    harmonic = float((1 / np.arange(1, rows + 1)).sum())
    others = (positives - 1) / (rows - 1)
    return (harmonic + others * (rows - harmonic)) / rows


def _named(metric: str) -> tuple[str, int]:
    name, _, k = metric.partition("@")
    return name, int(k) if k else ALL


def _places(lists: Array) -> Array:
    """Return the position of each row in its group, from 0; rows are sorted by group."""
    starts = np.searchsorted(lists, np.arange(lists[-1] + 1))
    return np.arange(len(lists)) - starts[lists]


def _reciprocal_rank(lists: Array, place: Array, relevant: Array, k: int) -> Array:
    """Return 1 / rank of the first relevant row, 0 where that is after rank k (Voorhees 1999)."""
    best = np.full(int(lists[-1]) + 1, np.inf)
    np.minimum.at(best, lists[relevant], place[relevant])
    found = np.where(best < k, 1 / (best + 1), 0.0)
    return np.where(np.isinf(best), np.nan, found)


def _average_precision(lists: Array, place: Array, relevant: Array) -> Array:
    """Return the mean of the precision at each relevant row."""
    hits = np.cumsum(relevant)
    before = (hits - relevant)[np.searchsorted(lists, np.arange(lists[-1] + 1))]
    precision = np.where(relevant, (hits - before[lists]) / (place + 1), 0.0)
    counts = np.bincount(lists, weights=relevant)
    return ratio(np.bincount(lists, weights=precision), counts)


def _random_ndcg(group: Array, gain: Array, length: Array, k: int) -> Array:
    """Return the expected NDCG of each group: every position has the mean gain of its group."""
    mean = ratio(np.bincount(group, weights=gain), length.astype(np.float64))
    worth = np.append(0.0, np.cumsum(1 / np.log2(np.arange(2, k + 2))))
    return ratio(mean * worth[np.minimum(length, k)], ideal_gains(group, gain, k))


def _random_shape(name: str, rows: int, relevant: int, k: int) -> float:
    """Return the expected value for a group of `rows` rows of which some are relevant."""
    if not relevant:
        return float("nan")
    if name == "map":
        return random_order_precision(relevant, rows)
    # The first relevant row has rank r if the r - 1 rows before it are irrelevant.
    left = rows - np.arange(rows - relevant + 1)
    none_before = np.append(1.0, np.cumprod((left[:-1] - relevant) / left[:-1]))
    chance = none_before * relevant / left
    rank = np.arange(1, len(left) + 1)
    return float((chance / rank)[:k].sum())
