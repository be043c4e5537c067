"""Metrics as functions of entity weights, so that a value and its bootstrap are one piece of code.

A resample of entities is a weight for each of them: how often it was drawn. What is expensive
(sorting scores, sums within an entity) is done once, before the first resample. What cannot be
computed is NaN, never an exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from springtide_trainer.ranking import area, average_precision, ndcg, ratio

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, np.dtype[Any]]
    Statistic = Callable[[Array], Array]
    """From weights [samples, entities], whole numbers, to values [samples]."""

BINS = 15
"""Bins of the expected calibration error, each with the same number of rows."""


@dataclass(frozen=True)
class Rows:
    """What is known of the rows beside the scores."""

    label: Array
    """int [rows]: index into the labels."""
    entity: Array
    """int [rows]: 0 to entities - 1, each at least once."""
    group: Array | None = None
    """int [rows]: the ranking list, 0 to groups - 1."""

    @property
    def entities(self) -> int:
        """Number of entities."""
        return int(self.entity.max()) + 1 if len(self.entity) else 0

    def only(self, kept: Array) -> Rows:
        """Return the rows of a mask, with entities and groups numbered anew."""
        group = None if self.group is None else _codes(self.group[kept])
        return Rows(self.label[kept], _codes(self.entity[kept]), group)


def statistic(metric: str, rows: Rows, probabilities: Array) -> Statistic:
    """Prepare a metric for any weighting of the entities.

    Args:
        metric: auc, pr_auc, log_loss, accuracy, macro_f1, ece or ndcg@<k>.
        rows: Labels, entities and groups.
        probabilities: float [rows, labels]. With two labels the second one is positive.

    Returns:
        A function from weights [samples, entities] to values [samples], NaN where undefined.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    if not len(rows.label) or not np.isfinite(scores).all():
        return _undefined
    if metric.startswith("ndcg@"):
        return _undefined if rows.group is None else _ndcg(rows, scores, int(metric[5:]))
    return METRICS[metric](rows, scores)


def value(metric: str, rows: Rows, probabilities: Array) -> float:
    """Compute a metric, each row once; NaN where it is undefined."""
    whole = np.ones((1, rows.entities), dtype=np.int32)
    return float(statistic(metric, rows, probabilities)(whole)[0])


def positives(rows: Rows, labels: int) -> int:
    """Count the rows of the positive label; with more than two labels, of the rarest."""
    counts = np.bincount(rows.label, minlength=labels)
    return int(counts[1] if labels == 2 else counts.min()) if len(rows.label) else 0


def _undefined(weights: Array) -> Array:
    return np.full(len(weights), np.nan)


def _mean(rows: Rows, amount: Array) -> Statistic:
    """Average an amount over rows; all it takes is a sum and a count for each entity."""
    sums = np.bincount(rows.entity, weights=amount)
    return _quotient(sums, np.bincount(rows.entity).astype(np.float64))


def _quotient(sums: Array, counts: Array) -> Statistic:
    """Divide sums by counts, both given for each entity."""
    terms = np.stack([sums, counts], axis=1)

    def mean(weights: Array) -> Array:
        above, below = (weights.astype(np.float64) @ terms).T
        return ratio(above, below)

    return mean


def _log_loss(rows: Rows, scores: Array) -> Statistic:
    least = np.finfo(np.float64).eps
    own = scores[np.arange(len(scores)), rows.label]
    return _mean(rows, -np.log(np.clip(own, least, 1.0)))


def _accuracy(rows: Rows, scores: Array) -> Statistic:
    return _mean(rows, (scores.argmax(axis=1) == rows.label).astype(np.float64))


def _sums(rows: Rows, code: Array, amount: Array, codes: int) -> Any:
    """Add up an amount for each entity and code: sparse [codes, entities]."""
    return sparse.csr_array((amount, (code, rows.entity)), shape=(codes, rows.entities))


def _macro_f1(rows: Rows, scores: Array) -> Statistic:
    """Average F1 over the labels that occur, in truth or prediction, as scikit-learn does."""
    labels = scores.shape[1]
    said = scores.argmax(axis=1)
    right = said == rows.label
    each = np.ones(len(right))
    hits = _sums(rows, rows.label, right.astype(np.float64), labels)
    both = _sums(rows, rows.label, each, labels) + _sums(rows, said, each, labels)

    def macro_f1(weights: Array) -> Array:
        turned = weights.T.astype(np.float64)
        return np.asarray(_mean_of_known(ratio(2 * (hits @ turned), both @ turned)))

    return macro_f1


def _mean_of_known(by_label: Array) -> Array:
    """Average over the first axis what is not NaN; NaN where nothing is known."""
    known = ~np.isnan(by_label)
    return ratio(np.where(known, by_label, 0.0).sum(axis=0), known.sum(axis=0))


def _ece(rows: Rows, scores: Array) -> Statistic:
    """Average |confidence - hit rate| over bins that hold equally many rows.

    Confidence is that of the positive label where there are two, else that of the label said
    (Guo et al. 2017; equal-mass bins: Nguyen and O'Connor 2015). Bins are those of all rows;
    equal confidences share one.
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

    return ece


def _by_label(
    rows: Rows, scores: Array, of: Callable[[Array, Array, Array], Statistic]
) -> Statistic:
    """Take the positive label, or average over the labels that occur, each against the rest."""
    labels = [1] if scores.shape[1] == 2 else range(scores.shape[1])
    parts = [of(rows.entity, rows.label == label, scores[:, label]) for label in labels]
    return lambda weights: _mean_of_known(np.stack([part(weights) for part in parts]))


def _ndcg(rows: Rows, scores: Array, k: int) -> Statistic:
    """Average NDCG over lists; a list belongs to the entity of its first row."""
    assert rows.group is not None
    rank_by = scores @ np.arange(scores.shape[1])
    found = ndcg(rows.group, rows.label.astype(np.float64), rank_by, k=k)
    first = np.unique(rows.group, return_index=True)[1]
    kept = ~np.isnan(found)
    if not kept.any():
        return _undefined
    size = rows.entities
    owner = rows.entity[first][kept]
    sums = np.bincount(owner, weights=found[kept], minlength=size)
    return _quotient(sums, np.bincount(owner, minlength=size).astype(np.float64))


def _codes(values: Array) -> Array:
    return np.unique(values, return_inverse=True)[1]


METRICS: dict[str, Callable[[Rows, Array], Statistic]] = {
    "auc": lambda rows, scores: _by_label(rows, scores, area),
    "pr_auc": lambda rows, scores: _by_label(rows, scores, average_precision),
    "log_loss": _log_loss,
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
    "ece": _ece,
}
