"""Samples the replay buffer that a generation leaves: rows that its lineage was trained on.

It is a function of the parent's buffer and of the training rows of the generation. The seed of the
recipe does not count: a row has the same key in each generation, so new rows have no advantage.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from springtide_trainer.data.partitions import named, within
from springtide_trainer.data.snapshots.decay import Limits, decay_of, half_life_of, times_of
from springtide_trainer.data.snapshots.freeze import sort_rows
from springtide_trainer.data.snapshots.frozen_rows import codes, read_chunks, row_hashes
from springtide_trainer.data.snapshots.row_checks import NO_LABEL
from springtide_trainer.data.snapshots.sampling import choose, draws, floors, grouped, pool
from springtide_trainer.data.source.reserved_entities import reserved
from springtide_trainer.tasks.table import task_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from springtide_api.generation.spec import Recipe
    from springtide_api.update.retention import Replay
    from springtide_trainer.tasks.task import Grouping

    Bools = NDArray[np.bool_]

WAITING = 1 << 16
"""Rows that are read at least before rows are dropped again."""
PREFIX = "buffer"
"""Of the entities of rows whose source has no entity column."""
_SALT = "buffer"
_SAMPLED = ("label", "weight", "group", "timestamp", "slice")
"""Columns that the choice of a group depends on."""


@dataclass(frozen=True)
class Sample:
    """A sample of rows.

    Attributes:
        table: The rows, with the columns of frozen rows.
        limits: What it was cut off at.
    """

    table: pa.Table
    limits: Limits = field(default_factory=Limits)


def build(
    held: Sample,
    frozen: Path,
    recipe: Recipe,
    *,
    replay: Replay,
    quarantined: Sequence[str],
) -> Sample:
    """Sample the next buffer from the parent's and from the training rows of this run.

    A group that arrives again replaces that of the parent's buffer.

    Args:
        held: The rows of the parent's buffer that may be replayed.
        frozen: Folder of the frozen rows, verified.
        recipe: Names the columns.
        replay: Capacity, the floors of classes and slices, and decay.
        quarantined: Partitions whose rows are left out.
    """
    sample = _groups if task_of(recipe.model).grouping else _rows
    table, below = sample(held.table, frozen, recipe, replay=replay, quarantined=quarantined)
    limits = held.limits.lowered(half_life_of(replay), below, times_of(table))
    return Sample(_sorted(table, recipe), limits)


def withheld(table: pa.Table, recipe: Recipe, quarantined: Sequence[str]) -> Bools:
    """Mark the rows of quarantined partitions and reserved entities."""
    times = table["timestamp"].cast(pa.int64()).to_numpy()
    found = within(times, [named(name) for name in quarantined])
    if recipe.data.reserve:
        found |= np.array(reserved(table["entity"].to_pylist(), recipe.data.reserve.fraction), bool)
    return found


def usable_rows(table: pa.Table, kept_out: Bools, grouping: Grouping | None) -> Bools:
    """Mark the rows that are not withheld and have a weight above 0.

    Groups stay whole: one is left out with its first row that is withheld, if all its weights are
    0, or if it has too many rows to be trained on.
    """
    weights = table["weight"].to_numpy() if "weight" in table.column_names else np.ones(len(table))
    if grouping is None:
        return ~kept_out & (weights > 0)
    group, _ = codes(table["group"])
    kept = (np.bincount(group, kept_out) == 0) & (np.bincount(group, weights) > 0)
    kept &= np.bincount(group) <= grouping.max_rows
    found: Bools = kept[group]
    return found


@dataclass
class _Reservoir:
    """Rows that are in the sample so far: memory depends on its size, not on the rows read."""

    recipe: Recipe
    replay: Replay
    rows: pa.Table
    below: float = math.inf
    drawn: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))

    def add(self, table: pa.Table) -> None:
        """Add rows, and drop others if too many wait."""
        own = self.recipe.data.source.columns.entity is None
        # Without the slice: a row keeps its key when data.source.columns.slice is set or changed.
        known = table.select([name for name in table.column_names if name != "slice"])
        hashes = map(bytes, row_hashes(known, own_entity=own))
        self.drawn = np.append(self.drawn, draws(hashes, _SALT))
        self.rows = pa.concat_tables([self.rows, table])
        if len(self.rows) > self.replay.buffer_rows + max(self.replay.buffer_rows, WAITING):
            self.drop()

    def drop(self) -> None:
        """Drop the rows that are not in the sample."""
        weighted = "weight" in self.rows.column_names
        rows = pool(
            self.drawn,
            weights=self.rows["weight"].to_numpy() if weighted else None,
            decay=decay_of(self.rows, self.replay),
        )
        size = self.replay.buffer_rows
        first = floors(self.rows, task_of(self.recipe.model), self.replay)
        mask = choose(rows, first, wanted=size, limit=size)
        self.below = min(self.below, rows.key[~mask].min(initial=math.inf))
        self.rows = self.rows.filter(pa.array(mask)).combine_chunks()
        self.drawn = self.drawn[mask]


def _rows(
    held: pa.Table, frozen: Path, recipe: Recipe, *, replay: Replay, quarantined: Sequence[str]
) -> tuple[pa.Table, float]:
    """Sample rows; return them, and the lowest key that was left out."""
    sample = _Reservoir(recipe, replay, held.slice(0, 0))
    sample.add(held)
    for chunk in _chunks(frozen, held.schema):
        usable = usable_rows(chunk, withheld(chunk, recipe, quarantined), None)
        if recipe.training.pseudo_labels:
            usable &= pc.not_equal(chunk["label"], NO_LABEL).to_numpy()
        sample.add(chunk.filter(pa.array(usable)))
    sample.drop()
    return sample.rows, sample.below


def _groups(
    held: pa.Table, frozen: Path, recipe: Recipe, *, replay: Replay, quarantined: Sequence[str]
) -> tuple[pa.Table, float]:
    """Sample groups, which are chosen before texts are read; as `_rows` does."""
    task, kept_out, sampled = task_of(recipe.model), [], []
    for chunk in chain([held], _chunks(frozen, held.schema)):
        kept_out.append(withheld(chunk, recipe, quarantined))
        sampled.append(chunk.select([name for name in _SAMPLED if name in chunk.column_names]))
    table = pa.concat_tables(sampled)
    new = np.concatenate(kept_out)[len(held) :]
    usable = usable_rows(table.slice(len(held)), new, task.grouping)
    usable = np.concatenate([~_again(table, len(held), usable), usable])
    table = table.filter(pa.array(usable))
    groups = pool(
        None,
        weights=table["weight"].to_numpy() if "weight" in table.column_names else None,
        groups=grouped(table["group"], _SALT),
        decay=decay_of(table, replay),
    )
    size = replay.buffer_rows
    mask = choose(groups, floors(table, task, replay), wanted=size, limit=size)
    below = groups.key[groups.unit[~mask]].min(initial=math.inf)
    usable[usable] = mask
    kept, start = [], 0
    for chunk in chain([held], _chunks(frozen, held.schema)):
        kept.append(chunk.filter(pa.array(usable[start : start + len(chunk)])))
        start += len(chunk)
    return pa.concat_tables(kept), float(below)


def _again(table: pa.Table, count: int, usable: Bools) -> Bools:
    """Mark the first `count` rows whose group is also one of the usable rows after them."""
    groups = table["group"].combine_chunks()
    new = groups.slice(count).filter(pa.array(usable)).unique()
    found: Bools = pc.is_in(groups.slice(0, count), new).to_numpy(zero_copy_only=False)
    return found


def _sorted(chosen: pa.Table, recipe: Recipe) -> pa.Table:
    """Return rows in the order of frozen rows, with new names of entities that are positions."""
    if not len(chosen):
        return chosen
    own = recipe.data.source.columns.entity is None
    chosen = chosen.drop_columns(["partition", *(["entity"] if own else [])])
    place = chosen.column_names.index("timestamp")
    counted = chosen.set_column(place, "timestamp", chosen["timestamp"].cast(pa.int64()))
    return sort_rows(counted, recipe, PREFIX)


def _chunks(frozen: Path, columns: pa.Schema) -> Iterator[pa.Table]:
    """Yield the training rows in chunks, never all at once."""
    for batch in read_chunks(frozen, "train"):
        yield pa.Table.from_batches([batch]).select(columns.names).cast(columns)
