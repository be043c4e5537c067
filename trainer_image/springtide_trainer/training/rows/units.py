"""What a step consists of: rows, or groups of rows that are never split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Units:
    """The rows to train on, divided into units.

    Attributes:
        rows: int64 [n], indices of the examples; the rows of a unit follow each other.
        starts: int64 [units + 1], where each unit begins in `rows`, and the end of the last one.
        grouped: Whether the units are groups.
    """

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    grouped: bool

    @staticmethod
    def of_rows(rows: NDArray[np.int64]) -> Units:
        """Return units of one row each."""
        return Units(rows, np.arange(len(rows) + 1), grouped=False)

    @staticmethod
    def of_groups(rows: NDArray[np.int64], group: NDArray[np.int64]) -> Units:
        """Return the groups of rows as units, ordered by their numbers.

        Args:
            rows: int64 [n], indices of the examples.
            group: int64 [all examples], the group of each of them.
        """
        ordered = rows[np.argsort(group[rows], kind="stable")]
        new = np.flatnonzero(np.diff(group[ordered])) + 1
        starts = np.concatenate([[0], new, [len(ordered)]]).astype(np.int64)
        return Units(ordered, starts if len(ordered) else starts[:1], grouped=True)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def sizes(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of rows of these units: int64 [units]."""
        return self.starts[units + 1] - self.starts[units]

    def rows_of(self, units: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of these units, one unit after the other."""
        begins, sizes = self.starts[units], self.sizes(units)
        ends = np.cumsum(sizes)
        places = np.repeat(begins - (ends - sizes), sizes)
        found: NDArray[np.int64] = self.rows[places + np.arange(len(places))]
        return found

    def longest(self, lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the length of the longest row of each unit: int64 [units].

        Args:
            lengths: int64 [all examples].
        """
        found: NDArray[np.int64] = np.maximum.reduceat(lengths[self.rows], self.starts[:-1])
        return found

    def mean(self, values: NDArray[Any]) -> NDArray[Any]:
        """Average a value of all examples over the rows of each unit: [units]."""
        of_rows = values[self.rows]
        if not self.grouped:
            return of_rows
        return np.add.reduceat(of_rows, self.starts[:-1], dtype=np.float64) / np.diff(self.starts)

    def only(self, kept: NDArray[np.bool_]) -> Units:
        """Return the units of a mask: bool [units]."""
        chosen = np.flatnonzero(kept)
        starts = np.concatenate([[0], np.cumsum(self.sizes(chosen))]).astype(np.int64)
        return Units(self.rows_of(chosen), starts, self.grouped)

    def with_order(self, labels: NDArray[Any]) -> Units:
        """Return the units whose rows have at least two different labels.

        Args:
            labels: [all examples].
        """
        own = labels[self.rows]
        least = np.minimum.reduceat(own, self.starts[:-1])
        return self.only(least < np.maximum.reduceat(own, self.starts[:-1]))


def passes(
    sizes: NDArray[np.int64], lengths: NDArray[np.int64], *, rows: int, tokens: int
) -> Iterator[slice]:
    """Cut consecutive units into forward passes: each as large as allowed, but at least one unit.

    Args:
        sizes: int64 [units], rows of each unit.
        lengths: int64 [units], tokens of the longest row of each unit.
        rows: Maximum rows of a pass.
        tokens: Maximum tokens of a pass. Each row counts as long as the longest of its pass.

    Yields:
        The units of each pass.
    """
    first = held = longest = 0
    for number, (size, length) in enumerate(zip(sizes.tolist(), lengths.tolist(), strict=True)):
        longest = max(longest, length)
        if number > first and (held + size > rows or (held + size) * longest > tokens):
            yield slice(first, number)
            first, held, longest = number, 0, length
        held += size
    yield slice(first, len(sizes))


def scored_rows(batch_size: int, divisor: int) -> int:
    """Return the rows of a pass without gradients: of a validation, or before the first step.

    Such a pass keeps the outputs of one layer and not of all, but in FP32 and of `batchSize` rows
    however few a training pass has by now. So it is divided as well: where memory ran out in it,
    another attempt with passes as large would fail in the same way.

    Args:
        batch_size: That of the recipe.
        divisor: 1, doubled each time that memory ran out.
    """
    return max(1, batch_size // divisor)
