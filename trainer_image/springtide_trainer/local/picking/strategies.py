"""Which rows are worth a label: those that a model is unsure of, or those unlike all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Picked:
    """The rows that were chosen, in the order of the choice.

    Attributes:
        rows: int64 [picks], indices of rows.
        scores: float64 [picks], the number by which each was chosen.
    """

    rows: NDArray[np.int64]
    scores: NDArray[np.float64]


def by_entropy(probabilities: NDArray[np.float32], count: int, *, exclusive: bool) -> Picked:
    """Pick the rows whose predicted labels have the highest entropy, in nats.

    Settles 2009, Active Learning Literature Survey, section 3.1. With several labels a row, the sum
    of the entropies of its labels.

    Args:
        probabilities: [rows, labels].
        count: How many rows.
        exclusive: Whether a row has exactly one of the labels.
    """
    chances = probabilities.astype(np.float64)
    terms = _plogp(chances) if exclusive else _plogp(chances) + _plogp(1.0 - chances)
    return _first(-terms.sum(axis=1), count, highest=True)


def by_margin(probabilities: NDArray[np.float32], count: int, *, exclusive: bool) -> Picked:
    """Pick the rows whose two most probable labels differ least in their probability.

    Scheffer et al. 2001, as in section 3.1 of Settles 2009. With several labels a row, the
    smallest difference of having a label and of not having it. Arguments as `by_entropy`.
    """
    chances = probabilities.astype(np.float64)
    if exclusive:
        best = np.sort(chances, axis=1)
        return _first(best[:, -1] - best[:, -2], count, highest=False)
    return _first(np.abs(2.0 * chances - 1.0).min(axis=1), count, highest=False)


def diverse(
    vectors: NDArray[np.float32], count: int, *, labelled: NDArray[np.float32] | None = None
) -> Picked:
    """Pick rows so that each row has a picked or labelled one nearby: k-centre greedy.

    Algorithm 1 of Sener and Savarese 2018, arXiv:1708.00489: the next pick is the row that is
    farthest from all centres. The largest distance that is left is at most twice that of the best
    choice. Ends early where every row equals a centre.

    Args:
        vectors: [rows, dimensions].
        count: How many rows.
        labelled: [rows, dimensions] of rows that have labels: the first centres. None: the mean of
            all rows is the first centre, and no pick.

    Returns:
        The rows, each with its distance from the centres at the time of its choice.
    """
    points = vectors.astype(np.float32)
    centres = points.mean(axis=0, keepdims=True) if labelled is None else labelled
    # Differences, not products: rows that equal a centre must be at distance 0.
    nearest = np.full(len(points), np.inf)
    for centre in centres:
        np.minimum(nearest, _squares(points, centre), out=nearest)
    rows, distances = [], []
    for _ in range(min(count, len(points))):
        farthest = int(nearest.argmax())
        if nearest[farthest] <= 0.0:
            break
        rows.append(farthest)
        distances.append(float(np.sqrt(nearest[farthest])))
        np.minimum(nearest, _squares(points, points[farthest]), out=nearest)
    return Picked(np.array(rows, np.int64), np.array(distances, np.float64))


def _squares(points: NDArray[np.float32], centre: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the squared distance of each point from a centre, without a copy of all points."""
    found = np.empty(len(points))
    for start in range(0, len(points), _CHUNK):
        apart = points[start : start + _CHUNK] - centre
        found[start : start + _CHUNK] = np.einsum("ij,ij->i", apart, apart)
    return found


def _plogp(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p log p, 0 where p is 0."""
    return chances * np.log(np.where(chances > 0.0, chances, 1.0))


def _first(scores: NDArray[np.float64], count: int, *, highest: bool) -> Picked:
    """Return the best rows; of equal scores, earlier rows first."""
    order = np.argsort(-scores if highest else scores, kind="stable")[:count]
    return Picked(order.astype(np.int64), scores[order])


_CHUNK = 16_384
