"""The rows of a window, written once and addressed by content.

The same rows give the same digest whatever files they came in: they lie in the order of time and,
within one moment, of their own hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from springtide_trainer.data.partitions import moment, spans_of
from springtide_trainer.data.snapshots.frozen_rows import MANIFEST, contents, row_hashes
from springtide_trainer.data.snapshots.row_checks import checked
from springtide_trainer.data.source.stream import canonical, read_parts
from springtide_trainer.data.windows.window import PARTS

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from springtide_api.generation import Recipe
    from springtide_trainer.data.partitions import Micros
    from springtide_trainer.data.source.stream import Stream
    from springtide_trainer.data.windows.new_data import Ask, Bools
    from springtide_trainer.data.windows.window import Part, Plan

_TIMESTAMP = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Frozen:
    """A written window."""

    digest: str
    labels: dict[Part, Counter[str]]
    """Rows of each label in each part."""


@dataclass
class _Writer:
    """One part of the window on its way to its file."""

    part: Part
    recipe: Recipe
    file: pq.ParquetWriter
    labels: Counter[str] = field(default_factory=Counter)
    contents: list[dict[str, object]] = field(default_factory=list)
    rows: int = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.file.close()

    def add(self, table: pa.Table, partition: str) -> None:
        """Check, order and write rows that are later than those before."""
        where = f"{self.part} rows" + (f" of {partition}" if partition else "")
        rows = checked(table, self.recipe.model.labels, where)
        lying = ordered(rows, self.recipe, self.part, first=self.rows)
        self.contents += contents(lying.table["partition"].to_pylist(), lying.hashes)
        self.labels.update(lying.table["label"].to_pylist())
        self.rows += len(lying.hashes)
        self.file.write_table(lying.table)


@dataclass(frozen=True)
class Ordered:
    """Rows in the one order that they have whatever files they came in."""

    table: pa.Table
    hashes: list[bytes]


def ordered(table: pa.Table, recipe: Recipe, part: str, *, first: int = 0) -> Ordered:
    """Order rows by time, then by their hashes, and name their partitions.

    Args:
        table: Rows that were checked.
        recipe: Says the columns and the length of a partition.
        part: Begins the name of a row that is its own entity.
        first: Number of the first such row.
    """
    own = "entity" not in table.column_names
    hashes = row_hashes(table, own_entity=own)
    times = table["timestamp"].to_numpy()
    words = np.frombuffer(b"".join(hashes), dtype=">u8").reshape(-1, 4)
    order = np.lexsort((*words.T[::-1], times))
    table = table.take(pa.array(order))
    table = table.append_column("partition", _partitions(times[order], recipe))
    if own:
        names = [f"{part}-{at}" for at in range(first, first + len(order))]
        table = table.append_column("entity", pa.array(names, pa.string()))
    form = schema(recipe)
    return Ordered(table.select(form.names).cast(form), [hashes[at] for at in order])


def _partitions(times: Micros, recipe: Recipe) -> pa.Array:
    spans = spans_of(times, recipe.data.source.partition.period)
    at = np.searchsorted([span.start for span in spans], times, side="right") - 1
    return pa.array([spans[int(one)].name for one in at], pa.string())


def freeze(stream: Stream, plan: Plan, *, recipe: Recipe, ask: Ask, folder: Path) -> Frozen:
    """Write the rows of a window and their manifest to a folder that exists.

    Raises:
        Refused: a row may not be frozen, or the source changed meanwhile.
    """
    masks: dict[Part, Bools] = {
        "train": plan.train,
        "holdout": plan.holdout,
        "reserved": plan.reserved,
    }
    form = schema(recipe)
    writers = {
        part: _Writer(part, recipe, pq.ParquetWriter(folder / f"{part}.parquet", form))
        for part in PARTS
    }
    with writers["train"], writers["holdout"], writers["reserved"]:
        for at, piece in enumerate(stream.pieces):
            mine = {part: masks[part][stream.of(at)] for part in PARTS}
            if not any(mask.any() for mask in mine.values()):
                continue
            seen = stream.rows.moment[stream.of(at)]
            parts = read_parts(piece, recipe.data, seen=seen, masks=mine)
            for part, table in parts.items():
                writers[part].add(table, piece.span.name if piece.span else "")
    described = describe(plan, recipe, ask) | {
        "rows": {part: writers[part].contents for part in PARTS}
    }
    text = json.dumps(described, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    (folder / MANIFEST).write_bytes(text)
    return Frozen(
        digest="sha256:" + hashlib.sha256(text).hexdigest(),
        labels={part: writers[part].labels for part in PARTS},
    )


def describe(plan: Plan, recipe: Recipe, ask: Ask) -> dict[str, Any]:
    """Say which window these rows are: what makes it another run, rows apart."""
    bounds, data = plan.bounds, recipe.data
    return {
        "from": _text(bounds.start),
        "to": _text(bounds.trained_through),
        "holdout": {
            "from": _text(bounds.judged_from),
            "to": _text(bounds.judged_to),
            "filter": data.holdout.filter.plain() if data.holdout.filter else None,
        },
        "quarantined": sorted(span.name for span in ask.quarantined),
        "reserve": data.reserve.fraction if data.reserve else None,
        "columns": data.source.columns.plain(),
    }


def _text(count: int | None) -> str | None:
    return None if count is None else moment(count).isoformat()


def schema(recipe: Recipe) -> pa.Schema:
    """Return the columns of frozen rows."""
    names = list(canonical(recipe.data.source.columns))
    kinds = {name: pa.float64() if name == "weight" else pa.string() for name in names}
    kinds |= {"timestamp": _TIMESTAMP, "entity": pa.string(), "partition": pa.string()}
    return pa.schema(list(kinds.items()))
