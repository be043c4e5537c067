"""How many entities a number rests on: few of them make a bootstrap's bounds too narrow.

A thousand entities of which five have a positive row are five for an AUC, and where two models
answer alike for all but five entities, five decide their difference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_trainer.evaluation.metrics import Statistic

    Array = np.ndarray[Any, np.dtype[Any]]


def contributing(one: Statistic) -> int:
    """Count the entities that a model's own value rests on."""
    return _counted(one.strata, None)


def discordant(one: Statistic, other: Statistic, entities: int) -> Array:
    """Find the entities in which two models differ for the metric.

    Args:
        one: A metric of one model.
        other: The same metric of the other model on the same rows.
        entities: Number of entities.

    Returns:
        bool [entities].
    """
    found = np.zeros(entities, dtype=bool)
    if one.answers.shape != other.answers.shape:
        return found
    differs = one.answers != other.answers
    found[one.owner[differs if differs.ndim == 1 else differs.any(axis=1)]] = True
    return found


def contributing_to_difference(one: Statistic, differing: Array) -> int:
    """Count the entities that a difference rests on, of those in which the models differ."""
    return _counted(one.strata, differing)


def _counted(strata: Sequence[Array], among: Array | None) -> int:
    """Count entities over strata by the degrees of freedom of their averages' sum.

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
    # The last digits of a quotient of floats must not cost an entity.
    return min(int(varying.sum()), int(variance * variance / squares + 1e-9))
