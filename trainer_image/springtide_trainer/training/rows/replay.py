"""Replays rows of earlier windows: which rows of the parent's buffer a run is trained on again."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from springtide_api.retained import Replayed
from springtide_trainer.data.snapshots.decay import decay_of
from springtide_trainer.data.snapshots.frozen_rows import row_hashes
from springtide_trainer.data.snapshots.sampling import choose, draws, grouped, pool
from springtide_trainer.tasks.table import task_of

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.generation.spec import Recipe
    from springtide_api.update.retention import Replay
    from springtide_trainer.data.snapshots.replay_buffer import Held

_NAMED = 5


@dataclass(frozen=True)
class Drawn:
    """Rows that are replayed, and what is reported of them."""

    table: pa.Table
    report: Replayed


def draw(held: Held, recipe: Recipe, *, replay: Replay, new_rows: int, salt: str) -> Drawn:
    """Draw rows of a buffer: the floor of each class first, then up to the ratio of new rows.

    With a weight column the chance of a row is in proportion to its weight, in the buffer and here
    together; replayed rows then count alike. So it is with decay. Another window draws other rows.

    Args:
        held: The rows that may be replayed.
        recipe: Names columns and labels.
        replay: Ratio, floor, capacity and decay.
        new_rows: Number of new training rows.
        salt: Digest of the window.
    """
    table, task = held.table, task_of(recipe.model)
    wanted = int(Fraction(replay.ratio) * new_rows)
    classes = task.classes(table["label"])
    own = recipe.data.source.columns.entity is None
    weights = table["weight"].to_numpy() if "weight" in table.column_names else None
    below, decay = held.limits.below, decay_of(table, replay, held.limits)
    seed = f"draw/{recipe.training.hyperparameters.seed}/{salt}"
    if task.grouping:
        groups = grouped(table["group"], seed)
        rows = pool(None, classes, weights=weights, groups=groups, below=below, decay=decay)
    else:
        drawn = draws(map(bytes, row_hashes(table, own_entity=own)), seed)
        rows = pool(drawn, classes, weights=weights, below=below, decay=decay)
    mask = choose(rows, floor=replay.floor, wanted=wanted, limit=replay.buffer_rows)
    found = classes.counts(mask)
    drawn = table.filter(pa.array(mask))
    if own:  # names of rows without entities are their positions, in both sources
        names = pa.array([f"replayed-{number}" for number in range(len(drawn))], pa.string())
        drawn = drawn.set_column(drawn.column_names.index("entity"), "entity", names)
    expected = {name: n for name, n in found.items() if not held.labels or name in held.labels}
    message = held.message or _shortfall(expected, len(drawn), wanted=wanted, replay=replay)
    if held.cut:
        reason = f"{held.cut:,} groups have rows of quarantined partitions or reserved entities"
        message = "; ".join([*([message] if message else []), f"{reason} and are left out"])
    fewest = dict(sorted(found.items(), key=lambda one: (one[1], one[0])))
    median = _median(drawn) if replay.half_life and len(drawn) else None
    return Drawn(drawn, Replayed(rows=len(drawn), classes=fewest, median=median, message=message))


def _median(table: pa.Table) -> datetime:
    """Return the median of the timestamps, to the second: half of the rows are not older."""
    newest_first = pc.sort_indices(table["timestamp"], sort_keys=[("", "descending")])
    found: datetime = table["timestamp"][newest_first[(len(table) - 1) // 2].as_py()].as_py()
    return found.replace(microsecond=0)


def _shortfall(found: dict[str, int], rows: int, *, wanted: int, replay: Replay) -> str:
    """Describe what the buffer could not give; empty if nothing.

    Args:
        found: Drawn rows of each class; without labels that were appended after the buffer.
        rows: Drawn rows.
        wanted: Rows by the ratio.
        replay: Ratio, floor and capacity.
    """
    short = sorted(name for name, count in found.items() if count < replay.floor)
    parts = []
    if short:
        named = ", ".join(f"{name[:32]} {found[name]:,}" for name in short[:_NAMED])
        more = ", ..." if len(short) > _NAMED else ""
        parts.append(
            f"{len(short)} of {len(found)} classes have fewer than {replay.floor:,} "
            f"(rowsPerClass): {named}{more}"
        )
    if rows < wanted:
        parts.append(f"{rows:,} of {wanted:,} rows (ratio {replay.ratio})")
    return "; ".join(parts)
