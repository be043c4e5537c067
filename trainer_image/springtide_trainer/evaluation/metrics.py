"""Metrics as functions of entity weights, so that a value and its bootstrap are one piece of code.

A resample of entities is a weight for each of them: how often it was drawn. What is expensive
(sorting scores, sums within an entity) is done once, before the first resample. What cannot be
computed is NaN, never an exception.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from springtide_trainer.evaluation.ranking_metrics import area, average_precision, ndcg, ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Array = np.ndarray[Any, np.dtype[Any]]
    Function = Callable[[Array], Array]
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


NO_ONE = np.empty(0)


@dataclass(frozen=True)
class Statistic:
    """A metric of one model on some rows, ready for any weighting of the entities."""

    of: Function
    answers: Array = field(default_factory=lambda: NO_ONE)
    """[items, ...]: what the metric reads of the model. Two models whose answers are equal in an
    item do not differ there."""
    owner: Array = field(default_factory=lambda: NO_ONE)
    """int [items]: the entity that an item belongs to."""
    strata: tuple[Array, ...] = ()
    """bool [entities] each: the groups of entities whose averages the metric combines, such as
    those with a positive row and those with a negative row."""
    largest: float | None = None
    """Largest share of an entity in the metric, where one entity can change it by no more."""

    def __call__(self, weights: Array) -> Array:
        """Compute the metric, weights [samples, entities] to values [samples]."""
        return self.of(weights)


def statistic(metric: str, rows: Rows, probabilities: Array, *, once: bool = False) -> Statistic:
    """Prepare a metric for any weighting of the entities.

    Args:
        metric: auc, pr_auc, log_loss, accuracy, macro_f1, ece or ndcg@<k>.
        rows: Labels, entities and groups.
        probabilities: float [rows, labels]. With two labels the second one is positive.
        once: It is called once: keep no order of the rows for each label.

    Returns:
        From weights [samples, entities] to values [samples], NaN where undefined.
    """
    scores = np.asarray(probabilities, dtype=np.float64)
    if not len(rows.label) or not np.isfinite(scores).all():
        return UNDEFINED
    if metric.startswith("ndcg@"):
        return UNDEFINED if rows.group is None else _ndcg(rows, scores, int(metric[5:]))
    if metric in ORDERS:
        return _by_label(rows, scores, ORDERS[metric], once=once)
    return METRICS[metric](rows, scores)


def value(metric: str, rows: Rows, probabilities: Array) -> float:
    """Compute a metric, each row once; NaN where it is undefined."""
    whole = np.ones((1, rows.entities), dtype=np.int32)
    return float(statistic(metric, rows, probabilities, once=True)(whole)[0])


def positives(rows: Rows, labels: int) -> int:
    """Count the rows of the positive label; with more than two labels, of the rarest."""
    counts = np.bincount(rows.label, minlength=labels)
    return int(counts[1] if labels == 2 else counts.min()) if len(rows.label) else 0


def _undefined(weights: Array) -> Array:
    return np.full(len(weights), np.nan)


UNDEFINED = Statistic(_undefined)


def _mean(rows: Rows, amount: Array, *, within_one: bool) -> Statistic:
    """Average an amount over rows; all it takes is a sum and a count for each entity."""
    sums = np.bincount(rows.entity, weights=amount)
    counts = np.bincount(rows.entity).astype(np.float64)
    return _quotient(sums, counts, within_one=within_one)


def _quotient(sums: Array, counts: Array, *, within_one: bool) -> Statistic:
    """Divide sums by counts, both given for each entity.

    Args:
        sums: float [entities].
        counts: float [entities].
        within_one: What is summed lies in [0, 1], so that an entity changes the quotient by its
            share of the counts at most.
    """
    terms = np.stack([sums, counts], axis=1)

    def mean(weights: Array) -> Array:
        above, below = (weights.astype(np.float64) @ terms).T
        return ratio(above, below)

    largest = float(counts.max() / counts.sum()) if within_one else None
    return Statistic(mean, sums, np.arange(len(sums)), (counts > 0,), largest)


def _log_loss(rows: Rows, scores: Array) -> Statistic:
    least = np.finfo(np.float64).eps
    own = scores[np.arange(len(scores)), rows.label]
    return _mean(rows, -np.log(np.clip(own, least, 1.0)), within_one=False)


def _accuracy(rows: Rows, scores: Array) -> Statistic:
    hits = (scores.argmax(axis=1) == rows.label).astype(np.float64)
    return _mean(rows, hits, within_one=True)


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

    return Statistic(macro_f1, said, rows.entity, _sides(rows, range(labels)))


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

    return Statistic(ece, np.stack([confidence, hit], axis=1), rows.entity, (counts > 0,))


def _by_label(
    rows: Rows, scores: Array, of: Callable[[Array, Array, Array], Function], *, once: bool
) -> Statistic:
    """Take the positive label, or average over the labels that occur, each against the rest."""
    labels = [1] if scores.shape[1] == 2 else range(scores.shape[1])

    def part(label: int) -> Function:
        return of(rows.entity, rows.label == label, scores[:, label])

    parts: Iterable[Function] = map(part, labels) if once else [part(label) for label in labels]
    answers = scores[:, 1] if scores.shape[1] == 2 else scores
    return Statistic(
        lambda weights: _mean_of_known(np.stack([part(weights) for part in parts])),
        answers,
        rows.entity,
        _sides(rows, labels),
    )


def _sides(rows: Rows, labels: Sequence[int]) -> tuple[Array, ...]:
    """List for each label that occurs, but not alone, the entities with it and those without."""
    sides: list[Array] = []
    counts = np.bincount(rows.entity)
    for label in labels:
        of_label = np.bincount(rows.entity[rows.label == label], minlength=rows.entities)
        having, lacking = of_label > 0, of_label < counts
        if having.any() and lacking.any():
            sides += [having, lacking]
    return tuple(sides)


def _ndcg(rows: Rows, scores: Array, k: int) -> Statistic:
    """Average NDCG over lists; a list belongs to the entity of its first row."""
    assert rows.group is not None
    rank_by = scores @ np.arange(scores.shape[1])
    found = ndcg(rows.group, rows.label.astype(np.float64), rank_by, k=k)
    first = np.unique(rows.group, return_index=True)[1]
    kept = ~np.isnan(found)
    if not kept.any():
        return UNDEFINED
    size = rows.entities
    owner = rows.entity[first][kept]
    sums = np.bincount(owner, weights=found[kept], minlength=size)
    counts = np.bincount(owner, minlength=size).astype(np.float64)
    return _quotient(sums, counts, within_one=True)


def _codes(values: Array) -> Array:
    return np.unique(values, return_inverse=True)[1]


ORDERS = {"auc": area, "pr_auc": average_precision}
METRICS: dict[str, Callable[[Rows, Array], Statistic]] = {
    "log_loss": _log_loss,
    "accuracy": _accuracy,
    "macro_f1": _macro_f1,
    "ece": _ece,
}

BUILT_IN = (*ORDERS, *METRICS)
"""Metrics that need nothing but labels and scores."""
