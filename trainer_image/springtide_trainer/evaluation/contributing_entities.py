"""Counts the entities that contribute to a metric: with few, bootstrap bounds are too narrow.

If five of a thousand entities have a positive row, five contribute to the AUC. If two models have
different outputs for five entities only, five contribute to their difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_trainer.tasks.metrics.statistic import Statistic

    Array = np.ndarray[Any, np.dtype[Any]]


def contributing(one: Statistic) -> int:
    """Count the entities that contribute to the metric of one model."""
    return _effective_count(one.strata, None)


def discordant(one: Statistic, other: Statistic, entities: int) -> Array:
    """Return the entities for which two models differ in what the metric uses.

    Args:
        one: A metric of one model.
        other: The same metric of the other model on the same rows.
        entities: Number of entities.

    Returns:
        bool [entities].
    """
    found = np.zeros(entities, dtype=bool)
    if one.outputs.shape != other.outputs.shape:
        return found
    differs = one.outputs != other.outputs
    found[one.output_entity[differs if differs.ndim == 1 else differs.any(axis=1)]] = True
    return found


def contributing_to_difference(one: Statistic, differing: Array) -> int:
    """Count the entities that contribute to a difference, among the discordant ones."""
    return _effective_count(one.strata, differing)


def _effective_count(strata: Sequence[Array], among: Array | None) -> int:
    """Count entities over strata by the degrees of freedom of the sum of their averages.

    An average over N entities of which k vary has a variance of about k / N^2 with k degrees of
    freedom; those of a sum follow from Satterthwaite (1946). One stratum gives k itself.
    """
    variance = squares = 0.0
    varying = np.zeros(len(strata[0]), dtype=bool) if strata else np.zeros(0, dtype=bool)
    for stratum in strata:
        inside = stratum if among is None else stratum & among
        if count := int(inside.sum()):
            each = count / float(stratum.sum()) ** 2
            variance, squares = variance + each, squares + each * each / count
            varying |= inside
    if not squares:
        return 0
    # 1e-9: rounding errors of the quotient must not reduce the count.
    return min(int(varying.sum()), int(variance * variance / squares + 1e-9))
