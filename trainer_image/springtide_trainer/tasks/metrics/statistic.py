"""Metrics as functions of entity weights, so that values and bootstrap samples share their code.

A resample of entities is a weight for each of them: the number of draws. Expensive steps (sorting
scores, sums within an entity) are done once, before the first resample. A metric that is undefined
is NaN, never an exception.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    Array = np.ndarray[Any, np.dtype[Any]]
    Function = Callable[[Array], Array]
    """From integer weights [samples, entities] to values [samples]."""


@dataclass(frozen=True)
class EncodedRows:
    """Label, entity and group of each row, encoded as numbers."""

    label: Array
    """[rows, ...]: as encoded by the task."""
    entity: Array
    """int [rows]: 0 to entities - 1, each at least once."""
    group: Array | None = None
    """int [rows]: the ranking list, 0 to groups - 1."""

    @property
    def entities(self) -> int:
        """Number of entities."""
        return int(self.entity.max()) + 1 if len(self.entity) else 0

    def only(self, kept: Array) -> EncodedRows:
        """Return the rows of a mask, with entities and groups renumbered from 0."""
        group = None if self.group is None else _codes(self.group[kept])
        return EncodedRows(self.label[kept], _codes(self.entity[kept]), group)


EMPTY = np.empty(0)


@dataclass(frozen=True)
class Statistic:
    """A metric of one model on some rows, as a function of entity weights."""

    of: Function
    outputs: Array = field(default_factory=lambda: EMPTY)
    """[items, ...]: the outputs of the model that the metric uses. Two models do not differ in an
    item if their outputs are equal there."""
    output_entity: Array = field(default_factory=lambda: EMPTY)
    """int [items]: the entity of an item."""
    strata: tuple[Array, ...] = ()
    """bool [entities] each: the subsets of entities whose averages the metric combines, such as
    those with a positive row and those with a negative row."""
    max_share: float | None = None
    """Largest share of one entity in the metric, if this bounds the effect of one entity."""
    proportion: bool = False
    """The metric is a share of rows, so an exact interval over entities exists."""
    biased: bool = False
    """Noise biases the metric in one direction."""

    def __call__(self, weights: Array) -> Array:
        """Compute the metric, weights [samples, entities] to values [samples]."""
        return self.of(weights)


def _undefined(weights: Array) -> Array:
    return np.full(len(weights), np.nan)


UNDEFINED = Statistic(_undefined)


def whole(of: Statistic, rows: EncodedRows) -> float:
    """Compute a metric with every entity counted once; NaN if undefined."""
    return float(of(np.ones((1, rows.entities), dtype=np.int32))[0])


def mean(rows: EncodedRows, amount: Array, *, within_one: bool) -> Statistic:
    """Average a value over rows, from sum and count per entity."""
    sums = np.bincount(rows.entity, weights=amount)
    counts = np.bincount(rows.entity).astype(np.float64)
    return quotient(sums, counts, within_one=within_one)


def quotient(sums: Array, counts: Array, *, within_one: bool) -> Statistic:
    """Divide the weighted sum of sums by that of counts.

    Args:
        sums: float [entities].
        counts: float [entities].
        within_one: The summed values are in [0, 1], so one entity changes the quotient by at most
            its share of the counts.
    """
    terms = np.stack([sums, counts], axis=1)

    def divide(weights: Array) -> Array:
        above, below = (weights.astype(np.float64) @ terms).T
        return ratio(above, below)

    max_share = float(counts.max() / counts.sum()) if within_one else None
    return Statistic(divide, sums, np.arange(len(sums)), (counts > 0,), max_share)


def ratio(above: Array, below: Array) -> Array:
    """Divide; NaN where the denominator is 0."""
    made = np.full(above.shape, np.nan)
    np.divide(above, below, out=made, where=below > 0)
    return made


def _codes(values: Array) -> Array:
    return np.unique(values, return_inverse=True)[1]
