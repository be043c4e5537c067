"""Confidence intervals by a paired bootstrap over entities.

An entity is drawn with all its rows, and both models are scored on the same draws, so that what
rows of one shopper or query share, and what both models find hard, cancels in the difference
(cluster bootstrap: Field and Welsh 2007). Bounds are expanded percentiles (Hesterberg 2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, nan, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import beta, norm, t

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from springtide_trainer.evaluation.metrics import Statistic

    Array = np.ndarray[Any, np.dtype[Any]]

CELLS = 1 << 20
"""Weights at a time: samples times rows."""
TAIL = 20
"""Resamples beyond a bound at least, on average: fewer would leave the bound to chance."""
FEWEST = 10
"""Contributing entities from which on more samples are drawn for the sake of a bound: no rule
decides on fewer."""
MOST_SAMPLES = 20_000
"""A bound that needs more is left undefined."""


@dataclass(frozen=True)
class Estimate:
    """A number, its one-sided bounds and its standard error; NaN where undefined."""

    value: float = nan
    low: float = nan
    high: float = nan
    error: float = nan
    entities: int = 0
    """Entities that contribute to it."""


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


def expanded(alpha: float, entities: int) -> float:
    """Return the tail of the percentile whose bound errs with probability alpha.

    The percentile bootstrap is too narrow for few entities: it divides by n where a variance
    divides by n - 1, and takes the normal where Student's t belongs. Hesterberg (2015), section
    4.3: alpha' = Phi(-sqrt(n / (n - 1)) t_{alpha, n - 1}).

    Args:
        alpha: One-sided error.
        entities: Contributing entities, at least 2.
    """
    quantile = t.ppf(1 - alpha, entities - 1)
    return float(norm.cdf(-sqrt(entities / (entities - 1)) * quantile))


def samples_for(entities: int, by: Resampling) -> int:
    """Return how many samples the bounds of a number with so many entities need."""
    if entities < FEWEST:
        return by.samples
    tail = expanded(1 - by.confidence, entities)
    return max(by.samples, min(ceil(TAIL / tail), MOST_SAMPLES))


def estimate(found: Resampled, *, entities: int, by: Resampling, biased: bool = False) -> Estimate:
    """Read one-sided bounds off the resamples (expanded percentile method).

    A resample without a value, such as one of a single class, counts as the worst for either
    bound: more of them than the error allows leave the bound undefined. So do fewer than two
    entities, values that do not vary, and fewer samples than 20 / alpha'.

    Args:
        found: A number and its values on the resamples.
        entities: Number of entities that contribute to it.
        by: Says the confidence.
        biased: Noise moves the metric to one side, as it does a calibration error, and the
            resamples add noise: take the wider of the percentile and the reflected bound.
    """
    value, undefined = found.value, np.isnan(found.values)
    if not np.isfinite(value) or entities < 2 or undefined.all():
        return Estimate(value, entities=entities)
    known = found.values[~undefined]
    tail = expanded(1 - by.confidence, entities)
    if np.ptp(known) <= 1e-12 * max(1.0, abs(value)) or len(found.values) * tail < TAIL:
        return Estimate(value, entities=entities)
    values = np.where(undefined, -np.inf, found.values)
    low = float(np.quantile(values, tail, method="lower"))
    values = np.where(undefined, np.inf, found.values)
    high = float(np.quantile(values, 1 - tail, method="higher"))
    if not (np.isfinite(low) and np.isfinite(high)):
        return Estimate(value, entities=entities)
    if biased:
        low, high = min(low, 2 * value - high), max(high, 2 * value - low)
    return Estimate(value, low, high, float(known.std(ddof=1)), entities)


def with_clopper_pearson(found: Estimate, by: Resampling) -> Estimate:
    """Widen the bounds of a share of hits to those of Clopper and Pearson (1934) over entities.

    Entities without an error never yield one in a resample, so that the bootstrap of a share near
    1 (or 0) is too narrow: one error of 30 gives 0.900, the exact bound is 0.851.
    """
    n, alpha = found.entities, 1 - by.confidence
    if not np.isfinite(found.value) or n < 2:
        return found
    hits = found.value * n
    low = float(beta.ppf(alpha, hits, n - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - alpha, hits + 1, n - hits)) if hits < n else 1.0
    return Estimate(
        found.value,
        float(np.fmin(found.low, low)),
        float(np.fmax(found.high, high)),
        float(np.nan_to_num(found.error)),
        n,
    )


def without_discord(entities: int, *, largest: float, by: Resampling) -> Estimate:
    """Bound a difference of two models that differ in no entity.

    With one-sided confidence at most a share of 1 - alpha^(1/n) of all entities is discordant, and
    one of them changes the metric by the largest share of an entity at most.

    Args:
        entities: Entities that were scored.
        largest: Largest share of one of them in the metric.
        by: Says the confidence.
    """
    if entities < 2:
        return Estimate(0.0, entities=entities)
    share = -np.expm1(np.log(1 - by.confidence) / entities)
    width = float(min(share * largest * entities, 1.0))
    return Estimate(0.0, -width, width, 0.0, entities)
