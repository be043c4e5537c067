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
class Resampled:
    """A number and its values on resamples [samples]."""

    value: float
    values: Array

    def minus(self, other: Resampled) -> Resampled:
        """Return the difference, resample by resample."""
        return Resampled(self.value - other.value, self.values - other.values)


@dataclass(frozen=True)
class Resampling:
    """How the bounds are made."""

    samples: int = 2000
    confidence: float = 0.95
    """One-sided, of each bound."""
    seed: int = 0


def resample(
    statistics: Mapping[str, Statistic], *, entities: int, rows: int, by: Resampling
) -> dict[str, Resampled]:
    """Compute every statistic on the same resamples of entities.

    Args:
        statistics: Functions of entity weights, by name.
        entities: Number of entities.
        rows: Number of rows; bounds the memory.
        by: Samples, confidence, seed.
    """
    drawn: dict[str, list[Array]] = {name: [] for name in statistics}
    for weights in draws(entities, rows=rows, by=by):
        for name, of in statistics.items():
            drawn[name].append(of(weights))
    whole = np.ones((1, entities), dtype=np.int32)
    return {
        name: Resampled(float(of(whole)[0]), np.concatenate(drawn[name]))
        for name, of in statistics.items()
    }


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


def estimate(found: Resampled, *, entities: int, by: Resampling, biased: bool = False) -> Estimate:
    """Read one-sided bounds off the resamples (percentile method).

    A resample without a value, such as one of a single class, counts as the worst for either
    bound: more of them than the error allows leave the bound undefined. So do fewer than two
    entities: they vary in nothing.

    Args:
        found: A number and its values on the resamples.
        entities: Number of entities that were drawn from.
        by: Says the confidence.
        biased: Noise moves the metric to one side, as it does a calibration error, and the
            resamples add noise: take the wider of the percentile and the reflected bound.
    """
    value, undefined = found.value, np.isnan(found.values)
    if not np.isfinite(value) or entities < 2:
        return Estimate(value)
    values = np.where(undefined, -np.inf, found.values)
    low = float(np.quantile(values, 1 - by.confidence, method="lower"))
    values = np.where(undefined, np.inf, found.values)
    high = float(np.quantile(values, by.confidence, method="higher"))
    if not (np.isfinite(low) and np.isfinite(high)):
        return Estimate(value)
    if biased:
        low, high = min(low, 2 * value - high), max(high, 2 * value - low)
    return Estimate(value, low, high, float(found.values[~undefined].std(ddof=1)))
