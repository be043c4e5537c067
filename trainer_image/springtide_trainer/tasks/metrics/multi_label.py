"""Metrics of rows with any number of labels: macro and micro averages over the labels.

A label that is not known in a row (-1) does not count for that row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.tasks.metrics.classification import RANKING_METRICS, nan_mean
from springtide_trainer.tasks.metrics.ranked_groups import random_order_precision
from springtide_trainer.tasks.metrics.statistic import (
    UNDEFINED,
    EncodedRows,
    Statistic,
    quotient,
    ratio,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from springtide_trainer.tasks.metrics.statistic import Array, Function

THRESHOLD = 0.5


def statistic(
    metric: str, rows: EncodedRows, probabilities: Array, *, once: bool = False
) -> Statistic:
    """Prepare a metric as a function of entity weights.

    Args:
        metric: auc, pr_auc, log_loss, macro_f1 or micro_f1. AUC, average precision and macro F1
            are averages over the labels, F1 of labels of at least 0.5.
        rows: int8 [rows, labels], -1 where a label is not known, and entities.
        probabilities: float [rows, labels].
        once: The function is called once: the sorted rows of each label are not kept.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    if not len(rows.label) or not np.isfinite(scores).all():
        return UNDEFINED
    if metric == "log_loss":
        return _log_loss(rows, scores)
    if metric in RANKING_METRICS:
        return _ranked(rows, scores, RANKING_METRICS[metric], once=once)
    return _f1(rows, scores, micro=metric == "micro_f1")


def trivial_baseline(metric: str, rows: EncodedRows) -> float:
    """Return the best score of predictions that only use the frequencies of the labels."""
    known = (rows.label >= 0).sum(axis=0)
    positive = (rows.label == 1).sum(axis=0)
    occurs = positive > 0
    if not occurs.any():
        return float("nan")
    count, rate = known[occurs], positive[occurs] / known[occurs]
    match metric:
        case "auc":
            return 0.5
        case "pr_auc":
            # As in the metric: a label that all rows have cannot be ranked.
            ranked = occurs & (positive < known)
            if not ranked.any():
                return float("nan")
            pairs = zip(positive[ranked], known[ranked], strict=True)
            return float(np.mean([random_order_precision(int(n), int(of)) for n, of in pairs]))
        case "log_loss":
            most = np.clip(rate, 1e-15, 1 - 1e-15)
            entropy = -(rate * np.log(most) + (1 - rate) * np.log1p(-most))
            return float((count * entropy).sum() / known.sum())
        case "macro_f1":
            return float((2 * rate / (1 + rate)).mean())
    # micro_f1: predict the most frequent labels for all rows, as many as is best.
    order = np.argsort(-rate)
    hits, predicted = np.cumsum(positive[occurs][order]), np.cumsum(count[order])
    return float((2 * hits / (predicted + positive.sum())).max())


def _log_loss(rows: EncodedRows, scores: Array) -> Statistic:
    """Average the binary cross entropy over all known labels of all rows."""
    least = np.finfo(np.float64).eps
    chance = np.clip(scores, least, 1 - least)
    loss = -np.where(rows.label == 1, np.log(chance), np.log1p(-chance))
    known = rows.label >= 0
    sums = np.bincount(rows.entity, weights=np.where(known, loss, 0.0).sum(axis=1))
    counts = np.bincount(rows.entity, weights=known.sum(axis=1))
    return quotient(sums, counts, within_one=False)


def _ranked(
    rows: EncodedRows, scores: Array, of: Callable[[Array, Array, Array], Function], *, once: bool
) -> Statistic:
    """Average a ranking metric over the labels that some known rows have and others do not."""

    def part(label: int) -> Function:
        known = rows.label[:, label] >= 0
        return of(rows.entity[known], rows.label[known, label] == 1, scores[known, label])

    labels = [label for label in range(scores.shape[1]) if _strata_of(rows, label)]
    if not labels:
        return UNDEFINED
    parts: Iterable[Function] = map(part, labels) if once else [part(label) for label in labels]
    return Statistic(
        lambda weights: nan_mean(np.stack([part(weights) for part in parts])),
        scores,
        rows.entity,
        tuple(each for label in labels for each in _strata_of(rows, label)),
    )


def _f1(rows: EncodedRows, scores: Array, *, micro: bool) -> Statistic:
    """F1 = 2 hits / (predicted + actual): of all labels together, or averaged over the labels."""
    known, predicted = rows.label >= 0, scores >= THRESHOLD
    hits = _by_entity(rows, (rows.label == 1) & predicted)
    both = _by_entity(rows, rows.label == 1) + _by_entity(rows, known & predicted)

    def f1(weights: Array) -> Array:
        turned = weights.T.astype(np.float64)
        above, below = 2 * (hits @ turned), both @ turned
        if micro:
            return ratio(above.sum(axis=0), below.sum(axis=0))
        return nan_mean(ratio(above, below))

    strata = tuple(each for n in range(scores.shape[1]) for each in _strata_of(rows, n))
    return Statistic(f1, predicted, rows.entity, strata)


def _by_entity(rows: EncodedRows, marked: Array) -> Array:
    """Count the marked rows of each label in each entity: float [labels, entities]."""
    size = rows.entities
    return np.stack(
        [np.bincount(rows.entity, weights=column, minlength=size) for column in marked.T]
    )


def _strata_of(rows: EncodedRows, label: int) -> tuple[Array, ...]:
    """Return the entities with a label and those without, unless one is empty."""
    column, size = rows.label[:, label], rows.entities
    with_label = np.bincount(rows.entity[column == 1], minlength=size) > 0
    without = np.bincount(rows.entity[column == 0], minlength=size) > 0
    return (with_label, without) if with_label.any() and without.any() else ()
