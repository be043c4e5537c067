"""Confidence intervals by a paired bootstrap over entities.

An entity is drawn with all its rows, and both models are scored on the same draws, so that what
rows of one shopper or query share, and what both models find hard, cancels in the difference
(cluster bootstrap: Field and Welsh 2007).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from springtide_trainer.metrics import Statistic

    Array = np.ndarray[Any, np.dtype[Any]]

CELLS = 1 << 20
"""Weights at a time: samples times rows."""


@dataclass(frozen=True)
class Estimate:
    """A number, its one-sided bounds and its standard error; NaN where undefined."""

    value: float = nan
    low: float = nan
    high: float = nan
    error: float = nan


@dataclass(frozen=True)
class Resampling:
    """How the bounds are made."""

    samples: int = 2000
    confidence: float = 0.95
    """One-sided, of each bound."""
    seed: int = 0


def estimates(
    statistics: Mapping[str, Statistic], *, entities: int, rows: int, by: Resampling
) -> tuple[dict[str, Estimate], dict[str, Array]]:
    """Estimate every statistic on the same resamples of entities.

    Args:
        statistics: Functions of entity weights, by name.
        entities: Number of entities. Fewer than two vary in nothing, so bounds are NaN.
        rows: Number of rows; bounds the memory.
        by: Samples, confidence, seed.

    Returns:
        The estimates, and the values of each resample [samples] for differences.
    """
    whole = np.ones((1, entities), dtype=np.int32)
    values = {name: float(of(whole)[0]) for name, of in statistics.items()}
    drawn: dict[str, list[Array]] = {name: [] for name in statistics}
    for weights in draws(entities, rows=rows, by=by):
        for name, of in statistics.items():
            drawn[name].append(of(weights))
    resampled = {name: np.concatenate(parts) for name, parts in drawn.items()}
    found = {name: bounds(values[name], resampled[name], entities, by) for name in statistics}
    return found, resampled


def difference(
    one: Estimate, other: Estimate, of_one: Array, of_other: Array, *, entities: int, by: Resampling
) -> Estimate:
    """Estimate one minus other from their values on the same resamples."""
    return bounds(one.value - other.value, of_one - of_other, entities, by)


def draws(entities: int, *, rows: int, by: Resampling) -> Iterator[Array]:
    """Yield weights int32 [some samples, entities]: how often each entity was drawn."""
    random = np.random.default_rng(by.seed)
    at_once = max(1, min(by.samples, CELLS // max(rows, entities, 1)))
    for start in range(0, by.samples, at_once):
        count = min(at_once, by.samples - start)
        chosen = random.integers(0, entities, size=(count, entities))
        chosen += np.arange(count)[:, None] * entities
        weights = np.bincount(chosen.ravel(), minlength=count * entities)
        yield weights.astype(np.int32).reshape(count, entities)


def bounds(value: float, resampled: Array, entities: int, by: Resampling) -> Estimate:
    """Read one-sided bounds off the resamples (percentile method).

    A resample without a value, such as one of a single class, counts as the worst for either
    bound: more of them than the error allows leave the bound undefined.
    """
    if not np.isfinite(value) or entities < 2:
        return Estimate(value=value)
    undefined = np.isnan(resampled)
    low = np.quantile(np.where(undefined, -np.inf, resampled), 1 - by.confidence, method="lower")
    high = np.quantile(np.where(undefined, np.inf, resampled), by.confidence, method="higher")
    if not (np.isfinite(low) and np.isfinite(high)):
        return Estimate(value=value)
    return Estimate(value, float(low), float(high), float(resampled[~undefined].std(ddof=1)))
