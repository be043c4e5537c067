"""Errors of predicted numbers, as functions of entity weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.tasks.metrics.statistic import (
    UNDEFINED,
    EncodedRows,
    Statistic,
    mean,
    quotient,
    ratio,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from springtide_trainer.tasks.metrics.statistic import Array


def statistic(metric: str, rows: EncodedRows, predictions: Array) -> Statistic:
    """Prepare a metric as a function of entity weights.

    Args:
        metric: rmse, mae, mape, wape or r2.
        rows: Labels as numbers, and entities.
        predictions: float [rows, 1], in the unit of the labels.

    Returns:
        A function from weights [samples, entities] to values [samples], NaN if undefined.
    """
    found = np.asarray(predictions, dtype=np.float64)[:, 0]
    if not len(rows.label) or not np.isfinite(found).all():
        return UNDEFINED
    return METRICS[metric](rows, found)


def trivial_baseline(metric: str, rows: EncodedRows) -> float:
    """Return the error of the best constant prediction on these rows.

    The mean has the least squared error, the median the least absolute error. The least absolute
    percentage error is that of a weighted median, each label weighted by 1 / |label|.
    """
    if not len(rows.label):
        return float("nan")
    label = np.asarray(rows.label, dtype=np.float64)
    if metric in {"rmse", "r2"}:
        constant = float(label.mean())
    elif metric == "mape":
        known = label[label != 0]
        constant = _weighted_median(known, 1 / np.abs(known)) if len(known) else 0.0
    else:
        constant = float(np.median(label))
    once = np.ones((1, rows.entities), dtype=np.int32)
    return float(METRICS[metric](rows, np.full(len(label), constant))(once)[0])


def _weighted_median(values: Array, weights: Array) -> float:
    order = np.argsort(values, kind="stable")
    passed = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(passed, passed[-1] / 2)])


def _mae(rows: EncodedRows, found: Array) -> Statistic:
    return mean(rows, np.abs(found - rows.label), within_one=False)


def _mape(rows: EncodedRows, found: Array) -> Statistic:
    """Average |error| / |label| over the rows whose label is not 0; others have no such error.

    Which rows count depends on the labels only, so it is the same for every model (Hyndman and
    Koehler 2006 describe the measure and that it is undefined at 0).
    """
    known = rows.label != 0
    size = rows.entities
    share = np.abs(found - rows.label)[known] / np.abs(rows.label[known])
    sums = np.bincount(rows.entity[known], weights=share, minlength=size)
    counts = np.bincount(rows.entity[known], minlength=size).astype(np.float64)
    return quotient(sums, counts, within_one=False)


def _wape(rows: EncodedRows, found: Array) -> Statistic:
    """Divide the sum of |error| by the sum of |label| (MAD/MEAN ratio: Kolassa and Schuetz 2007).

    Labels of 0 count, and small ones do not dominate.
    """
    sums = np.bincount(rows.entity, weights=np.abs(found - rows.label))
    return quotient(sums, np.bincount(rows.entity, weights=np.abs(rows.label)), within_one=False)


def _rmse(rows: EncodedRows, found: Array) -> Statistic:
    squared = mean(rows, (found - rows.label) ** 2, within_one=False)
    return _of_rows(rows, found, lambda weights: np.sqrt(squared(weights)))


def _r2(rows: EncodedRows, found: Array) -> Statistic:
    """Compute 1 - (sum of squared errors) / (sum of squared differences to the mean)."""
    centred = rows.label - rows.label.mean()
    columns = (np.ones(len(found)), centred, centred**2, (found - rows.label) ** 2)
    terms = np.stack([np.bincount(rows.entity, weights=each) for each in columns], axis=1)

    def r2(weights: Array) -> Array:
        count, first, second, error = (weights.astype(np.float64) @ terms).T
        total = second - ratio(first**2, count)
        # 1e-12: rounding errors of equal labels are not a variance.
        return 1 - ratio(error, np.where(total > 1e-12 * second, total, 0.0))

    return _of_rows(rows, found, r2)


def _of_rows(rows: EncodedRows, found: Array, of: Callable[[Array], Array]) -> Statistic:
    """A metric of all rows, which differs between models where their predictions differ."""
    return Statistic(of, found, rows.entity, (np.ones(rows.entities, dtype=bool),))


METRICS: dict[str, Callable[[EncodedRows, Array], Statistic]] = {
    "rmse": _rmse,
    "mae": _mae,
    "mape": _mape,
    "wape": _wape,
    "r2": _r2,
}
