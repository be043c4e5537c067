"""Confidence intervals by a paired bootstrap over entities.

An entity is drawn with all its rows, and both models are evaluated on the same draws, so that the
correlation of rows of one entity is respected and effects common to both models cancel in their
difference (cluster bootstrap: Field and Welsh 2007). Bounds are expanded percentiles (Hesterberg
2015).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, nan, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np

# The quantiles of scipy.stats, whose import takes 0.6 s of each evaluation.
from scipy.special import betaincinv, ndtr, stdtrit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from springtide_trainer.tasks.metrics.statistic import Statistic

    Array = np.ndarray[Any, np.dtype[Any]]

MAX_CELLS = 1 << 20
"""Maximum samples times rows in memory at a time."""
MIN_TAIL_SAMPLES = 20
"""Minimum expected number of resamples beyond a bound."""
MIN_ENTITIES = 10
"""Below this number of contributing entities no additional samples are drawn, because no rule
decides on so few."""
SAME = 1e-12
"""Difference of two values that is a rounding error."""
MAX_SAMPLES = 100_000
"""A bound that needs more samples is undefined. From 100 contributing entities on, none does up to
a confidence of 0.999 that three interim analyses share."""


@dataclass(frozen=True)
class Estimate:
    """A value, its one-sided bounds and its standard error; NaN if undefined."""

    value: float = nan
    low: float = nan
    high: float = nan
    error: float = nan
    entities: int = 0
    """Number of contributing entities."""


@dataclass(frozen=True)
class Resampled:
    """A value and its values on the resamples [samples]."""

    value: float
    values: Array

    def minus(self, other: Resampled) -> Resampled:
        """Return the difference for each resample."""
        return Resampled(self.value - other.value, self.values - other.values)


@dataclass(frozen=True)
class Resampling:
    """Bootstrap settings."""

    samples: int = 2000
    confidence: float = 0.95
    """One-sided confidence of each bound."""
    seed: int = 0


def resample(
    statistics: Mapping[str, Statistic], *, entities: int, rows: int, by: Resampling
) -> dict[str, Resampled]:
    """Compute every statistic on the same resamples of entities.

    Args:
        statistics: Functions of entity weights, by name.
        entities: Number of entities.
        rows: Number of rows; bounds the memory.
        by: Bootstrap settings.
    """
    drawn: dict[str, list[Array]] = {name: [] for name in statistics}
    for weights in bootstrap_weights(entities, rows=rows, by=by):
        for name, of in statistics.items():
            drawn[name].append(of(weights))
    whole = np.ones((1, entities), dtype=np.int32)
    return {
        name: Resampled(float(of(whole)[0]), np.concatenate(drawn[name]))
        for name, of in statistics.items()
    }


def bootstrap_weights(entities: int, *, rows: int, by: Resampling) -> Iterator[Array]:
    """Yield weights int32 [some samples, entities]: the number of draws of each entity."""
    rng = np.random.default_rng(by.seed)
    chunk = max(1, min(by.samples, MAX_CELLS // max(rows, entities, 1)))
    for start in range(0, by.samples, chunk):
        count = min(chunk, by.samples - start)
        chosen = rng.integers(0, entities, size=(count, entities))
        chosen += np.arange(count)[:, None] * entities
        weights = np.bincount(chosen.ravel(), minlength=count * entities)
        yield weights.astype(np.int32).reshape(count, entities)


def expanded_tail(alpha: float, entities: int) -> float:
    """Return the tail probability of the percentile whose bound has one-sided error alpha.

    The percentile bootstrap is too narrow for few entities: it uses n instead of n - 1 in the
    variance, and the normal distribution instead of Student's t. Hesterberg (2015), section 4.3:
    alpha' = Phi(-sqrt(n / (n - 1)) t_{alpha, n - 1}).

    Args:
        alpha: One-sided error.
        entities: Contributing entities, at least 2.
    """
    quantile = stdtrit(entities - 1, 1 - alpha)
    return float(ndtr(-sqrt(entities / (entities - 1)) * quantile))


def samples_for(entities: int, by: Resampling) -> int:
    """Return the number of samples that the bounds need for this number of entities.

    Where that is more than MAX_SAMPLES, none are drawn in vain.
    """
    if entities < MIN_ENTITIES:
        return by.samples
    tail = expanded_tail(1 - by.confidence, entities)
    if tail * MAX_SAMPLES < MIN_TAIL_SAMPLES:
        return by.samples
    return max(by.samples, ceil(MIN_TAIL_SAMPLES / tail))


def estimate(found: Resampled, *, entities: int, by: Resampling, biased: bool = False) -> Estimate:
    """Compute one-sided bounds from the resamples (expanded percentile method).

    A resample without a value, such as one with a single class, counts as the worst value for both
    bounds. The bounds are undefined if there are more of these than the error allows, fewer than
    two entities, no variation, or fewer samples than 20 / alpha'.

    Args:
        found: A value and its values on the resamples.
        entities: Number of contributing entities.
        by: Bootstrap settings.
        biased: Noise biases the metric in one direction, such as a calibration error, and
            resampling adds noise: take the wider of the percentile and the reflected bound.
    """
    value, undefined = found.value, np.isnan(found.values)
    if not np.isfinite(value) or entities < 2 or undefined.all():
        return Estimate(value, entities=entities)
    known = found.values[~undefined]
    tail = expanded_tail(1 - by.confidence, entities)
    if np.ptp(known) <= SAME * max(1.0, abs(value)) or len(found.values) * tail < MIN_TAIL_SAMPLES:
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
    """Widen the bounds of an accuracy to the Clopper-Pearson (1934) bounds over entities.

    An entity without an error has none in any resample, so the bootstrap of an accuracy near 1 (or
    0) is too narrow: for one error of 30 its bound is 0.900, the exact bound is 0.851.
    """
    n, alpha = found.entities, 1 - by.confidence
    if not np.isfinite(found.value) or n < 2:
        return found
    hits = found.value * n
    low = float(betaincinv(hits, n - hits + 1, alpha)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, n - hits, 1 - alpha)) if hits < n else 1.0
    return Estimate(
        found.value,
        float(np.fmin(found.low, low)),
        float(np.fmax(found.high, high)),
        float(np.nan_to_num(found.error)),
        n,
    )


def bound_at_an_end(found: Estimate, *, max_share: float, by: Resampling) -> Estimate:
    """Return bounds for a metric from 0 to 1 that is 0, or 1, for every entity.

    No resample differs, so the bootstrap has no bounds. As for two models without a discordant
    entity, at most a fraction 1 - alpha^(1/n) of all entities has another value.

    Args:
        found: The value, without bounds.
        max_share: Largest share of one entity in the metric.
        by: Bootstrap settings.
    """
    if found.entities < 2 or not min(abs(found.value), abs(1 - found.value)) <= SAME:
        return found
    width = bound_without_discordance(found.entities, max_share=max_share, by=by).high
    low, high = max(0.0, found.value - width), min(1.0, found.value + width)
    return Estimate(found.value, low, high, 0.0, found.entities)


def bound_without_discordance(entities: int, *, max_share: float, by: Resampling) -> Estimate:
    """Return bounds for the difference of two models without a discordant entity.

    With one-sided confidence, at most a fraction 1 - alpha^(1/n) of all entities is discordant, and
    each of them changes the metric by at most the largest share of an entity.

    Args:
        entities: Number of scored entities.
        max_share: Largest share of one entity in the metric.
        by: Bootstrap settings.
    """
    if entities < 2:
        return Estimate(0.0, entities=entities)
    share = -np.expm1(np.log(1 - by.confidence) / entities)
    width = float(min(share * max_share * entities, 1.0))
    return Estimate(0.0, -width, width, 0.0, entities)
