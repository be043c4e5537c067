"""Metrics of predicted probabilities: one label a row, one probability for each label."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from springtide_trainer.tasks.metrics import ranked_groups
from springtide_trainer.tasks.metrics.ranking import average_precision, roc_auc
from springtide_trainer.tasks.metrics.statistic import (
    UNDEFINED,
    EncodedRows,
    Statistic,
    mean,
    ratio,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from springtide_trainer.tasks.metrics.statistic import Array, Function

BINS = 15
"""Bins of the expected calibration error, each with the same number of rows."""


def statistic(
    metric: str, rows: EncodedRows, probabilities: Array, *, once: bool = False
) -> Statistic:
    """Prepare a metric as a function of entity weights.

    Args:
        metric: auc, pr_auc, log_loss, accuracy, macro_f1, ece or ndcg@<k>.
        rows: Labels as indices, entities and groups.
        probabilities: float [rows, labels]. With two labels the second one is the positive.
        once: The function is called once: the sorted rows of each label are not kept.

    Returns:
        A function from weights [samples, entities] to values [samples], NaN if undefined.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    if not len(rows.label) or not np.isfinite(scores).all():
        return UNDEFINED
    if metric.startswith("ndcg@"):
        return _ndcg(metric, rows, scores)
    if metric in RANKING_METRICS:
        return _by_label(rows, scores, RANKING_METRICS[metric], once=once)
    return METRICS[metric](rows, scores)


def value(metric: str, rows: EncodedRows, probabilities: Array) -> float:
    """Compute a metric with every entity counted once; NaN if undefined."""
    return whole(statistic(metric, rows, probabilities, once=True), rows)


def _log_loss(rows: EncodedRows, scores: Array) -> Statistic:
    least = np.finfo(np.float64).eps
    own = scores[np.arange(len(scores)), rows.label]
    return mean(rows, -np.log(np.clip(own, least, 1.0)), within_one=False)


def _accuracy(rows: EncodedRows, scores: Array) -> Statistic:
    hits = (scores.argmax(axis=1) == rows.label).astype(np.float64)
    return replace(mean(rows, hits, within_one=True), proportion=True)


def _sums(rows: EncodedRows, code: Array, amount: Array, codes: int) -> Any:
    """Sum a value per entity and code: sparse [codes, entities]."""
    return sparse.csr_array((amount, (code, rows.entity)), shape=(codes, rows.entities))


def _macro_f1(rows: EncodedRows, scores: Array) -> Statistic:
    """Average F1 over the labels that occur as label or prediction, as scikit-learn does."""
    labels = scores.shape[1]
    predicted = scores.argmax(axis=1)
    right = predicted == rows.label
    each = np.ones(len(right))
    hits = _sums(rows, rows.label, right.astype(np.float64), labels)
    both = _sums(rows, rows.label, each, labels) + _sums(rows, predicted, each, labels)

    def macro_f1(weights: Array) -> Array:
        turned = weights.T.astype(np.float64)
        return np.asarray(nan_mean(ratio(2 * (hits @ turned), both @ turned)))

    return Statistic(macro_f1, predicted, rows.entity, _strata(rows, range(labels)))


def nan_mean(by_label: Array) -> Array:
    """Average over the first axis without NaN values; NaN if all are NaN."""
    known = ~np.isnan(by_label)
    return ratio(np.where(known, by_label, 0.0).sum(axis=0), known.sum(axis=0))


def _ece(rows: EncodedRows, scores: Array) -> Statistic:
    """Average |confidence - accuracy| over bins with equal numbers of rows.

    Confidence is the probability of the positive label with two labels, else of the predicted
    label (Guo et al. 2017; equal-mass bins: Nguyen and O'Connor 2015). The bins are the same for
    all resamples; rows of equal confidence are in one bin.
    """
    binary = scores.shape[1] == 2
    confidence = scores[:, 1] if binary else scores.max(axis=1)
    hit = rows.label == 1 if binary else scores.argmax(axis=1) == rows.label
    ordered = np.sort(confidence)
    bins = np.searchsorted(ordered, confidence, side="left") * BINS // len(ordered)
    gaps = _sums(rows, bins, confidence - hit, BINS)
    counts = np.bincount(rows.entity).astype(np.float64)

    def ece(weights: Array) -> Array:
        turned = weights.T.astype(np.float64)
        return ratio(np.abs(gaps @ turned).sum(axis=0), counts @ turned)

    outputs = np.stack([confidence, hit], axis=1)
    return Statistic(ece, outputs, rows.entity, (counts > 0,), biased=True)


def _by_label(
    rows: EncodedRows, scores: Array, of: Callable[[Array, Array, Array], Function], *, once: bool
) -> Statistic:
    """Compute a metric of the positive label, or the one-vs-rest average over the labels."""
    labels = [1] if scores.shape[1] == 2 else range(scores.shape[1])

    def part(label: int) -> Function:
        return of(rows.entity, rows.label == label, scores[:, label])

    parts: Iterable[Function] = map(part, labels) if once else [part(label) for label in labels]
    outputs = scores[:, 1] if scores.shape[1] == 2 else scores
    return Statistic(
        lambda weights: nan_mean(np.stack([part(weights) for part in parts])),
        outputs,
        rows.entity,
        _strata(rows, labels),
    )


def _strata(rows: EncodedRows, labels: Sequence[int]) -> tuple[Array, ...]:
    """Return for each label the entities with it and those without, unless one is empty."""
    strata: list[Array] = []
    counts = np.bincount(rows.entity)
    for label in labels:
        of_label = np.bincount(rows.entity[rows.label == label], minlength=rows.entities)
        with_label, without_label = of_label > 0, of_label < counts
        if with_label.any() and without_label.any():
            strata += [with_label, without_label]
    return tuple(strata)


def _ndcg(metric: str, rows: EncodedRows, scores: Array) -> Statistic:
    """Average NDCG over groups; the gain is the index of the label, the score its expectation."""
    expected = scores @ np.arange(scores.shape[1])
    return ranked_groups.statistic(metric, rows, rows.label.astype(np.float64), expected)


RANKING_METRICS = {"auc": roc_auc, "pr_auc": average_precision}
METRICS: dict[str, Callable[[EncodedRows, Array], Statistic]] = {
    "log_loss": _log_loss,
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
    "ece": _ece,
}
