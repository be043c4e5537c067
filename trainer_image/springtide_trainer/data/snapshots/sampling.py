"""Samples rows by hash: the result depends on the rows and a seed, not on their order.

Weighted sampling without replacement (Efraimidis and Spirakis, 2006): each unit gets a key from its
hash and its weight, and the lowest keys are taken. A sample of a sample and new rows is therefore
a sample of all rows. Units are rows, or whole groups.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from springtide_trainer.tasks.task import Classes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from springtide_api.update.retention import Replay
    from springtide_trainer.data.snapshots.decay import Decay
    from springtide_trainer.tasks.task import Labels

    Integers = NDArray[np.int64]
    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

_NONE = np.iinfo(np.int64).max
"""The rank of a unit that is in no floor."""


@dataclass(frozen=True)
class Pool:
    """Rows to sample from.

    Attributes:
        unit: int64 [rows], the unit of each row, numbered by first occurrence.
        key: float64 [units]; lower keys are taken first.
    """

    unit: Integers
    key: Floats


@dataclass(frozen=True)
class Floor:
    """Rows that are taken first: of each class (or slice) as many.

    Attributes:
        classes: The classes of the rows.
        rows: Rows of each class.
    """

    classes: Classes
    rows: int


@dataclass(frozen=True)
class Grouped:
    """The group of each row: int64 [rows], and a number drawn for each group."""

    codes: Integers
    drawn: Floats


def floors(table: pa.Table, labels: Labels, replay: Replay) -> list[Floor]:
    """Return the floors of rows: of the classes of the task, and of slices where rows have them."""
    found = [Floor(labels.classes(table["label"]), replay.floor)]
    if "slice" in table.column_names:
        found.append(Floor(slices(table["slice"]), replay.slice_floor))
    return found


def slices(column: pa.ChunkedArray) -> Classes:
    """Return the slice of each row; an empty text is none."""
    encoded = pc.dictionary_encode(column.combine_chunks())
    names: list[str] = encoded.dictionary.to_pylist()
    codes = encoded.indices.to_numpy().astype(np.int64)
    named = np.flatnonzero(np.array([name != "" for name in names], dtype=bool))
    rows = np.flatnonzero(np.isin(codes, named))
    return Classes([names[code] for code in named], rows, np.searchsorted(named, codes[rows]))


def draws(names: Iterable[bytes], seed: str) -> Floats:
    """Return a number above 0 and below 1 for each name; another seed gives other numbers."""
    salt = f"springtide/replay/{seed}/".encode()
    return np.fromiter((_uniform(salt + name) for name in names), np.float64)


def pool(
    drawn: Floats | None,
    *,
    weights: Floats | None = None,
    groups: Grouped | None = None,
    below: float = math.inf,
    decay: Decay | None = None,
) -> Pool:
    """Return the rows with the keys of their units.

    Args:
        drawn: float64 [rows], from `draws` of the rows' contents. None with groups.
        weights: float64 [rows]; a unit is taken in proportion to the mean of its rows, above 0.
            None: all alike.
        groups: For units that are groups. None: each row is a unit.
        below: The units are themselves a sample of those with a key below this one, by the same
            weights. What has a high weight is in it more often, so it is taken less often here
            (Horvitz and Thompson, 1952).
        decay: How keys decay with time; its limits are used instead of `below`.
    """
    if groups is not None:
        unit, drawn = groups.codes, groups.drawn
    else:
        assert drawn is not None
        unit = np.arange(len(drawn))
    key = -np.log1p(-drawn)
    mean = np.ones(len(key))
    if weights is not None:
        sizes = np.bincount(unit, minlength=len(key))
        mean = np.bincount(unit, weights, minlength=len(key)) / sizes
    if decay is not None:
        key = decay.keys(key, mean, unit)
    elif weights is not None:
        key = key / mean * -np.expm1(-mean * below)
    return Pool(unit, key)


def grouped(groups: pa.ChunkedArray, seed: str) -> Grouped:
    """Return the groups of rows, with a number drawn for each."""
    encoded = pc.dictionary_encode(groups.combine_chunks())
    names = (name.encode() for name in encoded.dictionary.to_pylist())
    return Grouped(encoded.indices.to_numpy().astype(np.int64), draws(names, f"group/{seed}"))


def _uniform(text: bytes) -> float:
    head = int.from_bytes(hashlib.sha256(text).digest()[:8]) >> 11
    return (head + 0.5) / (1 << 53)


def choose(rows: Pool, floors: Sequence[Floor], *, wanted: int, limit: int) -> Bools:
    """Choose rows: the floors first, then more up to `wanted`.

    Units larger than `limit` are left out.

    Args:
        rows: The pool.
        floors: Rows that are taken first. A row counts for each of its classes in each floor. Where
            the limit is lower, all classes get about the same number.
        wanted: Rows to take in all, the floors included.
        limit: Maximum number of rows, which floors cannot exceed either.

    Returns:
        bool [rows].
    """
    sizes = np.bincount(rows.unit, minlength=len(rows.key))
    fits = sizes <= limit
    rank = np.full(len(rows.key), _NONE)
    for floor in floors:
        own = _ranks(rows, floor.classes)
        rank = np.where(own < floor.rows, np.minimum(rank, own), rank)
    first = np.flatnonzero(fits & (rank < _NONE))
    first = first[np.lexsort((rows.key[first], rank[first]))]
    taken = _prefix(first, sizes, limit)
    rest = np.flatnonzero(fits & (rank == _NONE))
    rest = rest[np.argsort(rows.key[rest], kind="stable")]
    left = min(wanted, limit) - int(sizes[taken].sum())
    chosen = np.zeros(len(rows.key), dtype=bool)
    chosen[taken] = True
    chosen[_prefix(rest, sizes, left)] = True
    mask: Bools = chosen[rows.unit]
    return mask


def _ranks(rows: Pool, classes: Classes) -> Integers:
    """Return the rank of each unit: the lowest that one of its rows has in a class, from 0."""
    unit, codes = rows.unit[classes.rows], classes.codes
    order = np.lexsort((unit, rows.key[unit], codes))
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    ranks = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    lowest = np.full(len(rows.key), _NONE)
    np.minimum.at(lowest, unit[order], ranks)
    return lowest


def _prefix(units: Integers, sizes: NDArray[Any], limit: int) -> Integers:
    """Return the first units that have at most `limit` rows together."""
    return units[: int(np.searchsorted(np.cumsum(sizes[units]), limit, side="right"))]
