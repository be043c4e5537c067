"""Replays rows of earlier windows: which rows of the parent's buffer a run is trained on again."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from springtide_api.retained import Replayed
from springtide_api.schema import one_line
from springtide_trainer.data.snapshots.decay import decay_of
from springtide_trainer.data.snapshots.frozen_rows import row_hashes
from springtide_trainer.data.snapshots.sampling import choose, draws, floors, grouped, pool
from springtide_trainer.tasks.table import task_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from springtide_api.generation.spec import Recipe
    from springtide_api.update.retention import Replay
    from springtide_trainer.data.snapshots.replay_buffer import Held

_NAMED = 5
_REPORTED = 256
_WIDTH = 100
"""Characters of the name of a slice, a value of the data, that are reported."""


@dataclass(frozen=True)
class Drawn:
    """Rows that are replayed, and what is reported of them."""

    table: pa.Table
    report: Replayed


def draw(held: Held, recipe: Recipe, *, replay: Replay, new_rows: int, salt: str) -> Drawn:
    """Draw rows of a buffer: the floors of classes and slices first, then up to the ratio.

    With a weight column the chance of a row is in proportion to its weight, in the buffer and here
    together; replayed rows then count alike. So it is with decay. Another window draws other rows.

    Args:
        held: The rows that may be replayed.
        recipe: Names columns and labels.
        replay: Ratio, floors, capacity and decay.
        new_rows: Number of new training rows.
        salt: Digest of the window.
    """
    table, task = held.table, task_of(recipe.model)
    wanted = int(Fraction(replay.ratio) * new_rows)
    first = floors(table, task, replay)
    own = recipe.data.source.columns.entity is None
    weights = table["weight"].to_numpy() if "weight" in table.column_names else None
    below, decay = held.limits.below, decay_of(table, replay, held.limits)
    seed = f"draw/{recipe.training.hyperparameters.seed}/{salt}"
    if task.grouping:
        groups = grouped(table["group"], seed)
        rows = pool(None, weights=weights, groups=groups, below=below, decay=decay)
    else:
        drawn = draws(map(bytes, row_hashes(table, own_entity=own)), seed)
        rows = pool(drawn, weights=weights, below=below, decay=decay)
    mask = choose(rows, first, wanted=wanted, limit=replay.buffer_rows)
    classes, *slices = (floor.classes.counts(mask) for floor in first)
    drawn = table.filter(pa.array(mask))
    if own:  # names of rows without entities are their positions, in both sources
        names = pa.array([f"replayed-{number}" for number in range(len(drawn))], pa.string())
        drawn = drawn.set_column(drawn.column_names.index("entity"), "entity", names)
    known = {name: n for name, n in classes.items() if not held.labels or name in held.labels}
    parts = [held.message] if held.message else _shortfalls(known, slices, replay)
    if not held.message and len(drawn) < wanted:
        parts.append(f"{len(drawn):,} of {wanted:,} rows (ratio {replay.ratio})")
    if held.cut:
        reason = f"{held.cut:,} groups have rows of quarantined partitions or reserved entities"
        parts.append(f"{reason} and are left out")
    report = Replayed(
        rows=len(drawn),
        classes=dict(_fewest(classes)),
        slices=_reported(slices[0]) if slices else {},
        median=_median(drawn) if replay.half_life and len(drawn) else None,
        message="; ".join(parts),
    )
    return Drawn(drawn, report)


def _fewest(rows: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(rows.items(), key=lambda one: (one[1], one[0]))


def _reported(slices: dict[str, int]) -> dict[str, int]:
    """Return the slices with the fewest rows; of names that are cut to the same, the first."""
    found: dict[str, int] = {}
    for name, rows in _fewest(slices)[:_REPORTED]:
        found.setdefault(one_line(name)[:_WIDTH], rows)
    return found


def _median(table: pa.Table) -> datetime:
    """Return the median of the timestamps, to the second: half of the rows are not older."""
    newest_first = pc.sort_indices(table["timestamp"], sort_keys=[("", "descending")])
    found: datetime = table["timestamp"][newest_first[(len(table) - 1) // 2].as_py()].as_py()
    return found.replace(microsecond=0)


def _shortfalls(
    classes: dict[str, int], slices: Sequence[dict[str, int]], replay: Replay
) -> list[str]:
    """Describe which floors the buffer could not give.

    Args:
        classes: Drawn rows of each class; without labels that were appended after the buffer.
        slices: Drawn rows of each slice; empty where rows have none.
        replay: The floors.
    """
    parts = _below(classes, replay.floor, "classes", "rowsPerClass")
    for found in slices:
        if not found and replay.slice_floor:
            parts.append("no row of the parent's buffer has a slice (rowsPerSlice)")
        parts += _below(found, replay.slice_floor, "slices", "rowsPerSlice")
    return parts


def _below(found: dict[str, int], floor: int, what: str, field: str) -> list[str]:
    """Describe the classes or slices with fewer rows than their floor, if there are some."""
    short = sorted(name for name, count in found.items() if count < floor)
    if not short:
        return []
    named = ", ".join(f"{name[:32]} {found[name]:,}" for name in short[:_NAMED])
    more = ", ..." if len(short) > _NAMED else ""
    return [
        f"{len(short)} of {len(found)} {what} have fewer than {floor:,} ({field}): {named}{more}"
    ]
