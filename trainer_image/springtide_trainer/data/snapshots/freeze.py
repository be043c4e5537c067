"""Freezes the rows of a window: writes them once, addressed by the digest of their content.

Equal rows give the same digest, whatever files they came from: they are sorted by time and, for
equal times, by their hashes.
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
from springtide_trainer.data.snapshots.frozen_rows import MANIFEST, partition_digests, row_hashes
from springtide_trainer.data.snapshots.row_checks import check_rows
from springtide_trainer.data.source.stream import frozen_columns, read_parts
from springtide_trainer.data.windows.window import PARTS
from springtide_trainer.tasks.table import task_of

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from springtide_api.generation.spec import Recipe
    from springtide_trainer.data.partitions import Micros
    from springtide_trainer.data.source.stream import Stream
    from springtide_trainer.data.windows.new_data import Bools, WindowRequest
    from springtide_trainer.data.windows.window import Part, WindowSplit
    from springtide_trainer.tasks.task import Labels

_TIMESTAMP = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Frozen:
    """The frozen rows of a window."""

    digest: str
    labels: dict[Part, Counter[str]]
    """Number of rows of each label in each part."""


@dataclass
class _Writer:
    """Writes one part of the window to its file."""

    part: Part
    recipe: Recipe
    task: Labels
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
        """Check, sort and write rows that are later than those written before."""
        where = f"{self.part} rows" + (f" of {partition}" if partition else "")
        rows = check_rows(table, self.task, where)
        sorted_rows = sort_rows(rows, self.recipe, self.part, first=self.rows)
        table = sorted_rows.table
        self.contents += partition_digests(table["partition"].to_pylist(), sorted_rows.hashes)
        self.labels.update(self.task.count(table["label"]))
        self.rows += len(sorted_rows.hashes)
        self.file.write_table(table)


@dataclass(frozen=True)
class SortedRows:
    """Rows in their canonical order, with their hashes."""

    table: pa.Table
    hashes: list[bytes]


def sort_rows(table: pa.Table, recipe: Recipe, part: str, *, first: int = 0) -> SortedRows:
    """Sort rows by time, then by hash, and add their partitions.

    Args:
        table: Checked rows.
        recipe: Names the columns and the period of a partition.
        part: Prefix of the entity of a row, if the source has no entity column.
        first: Number of the first row, for such an entity.
    """
    own = "entity" not in table.column_names
    hashes = row_hashes(table, own_entity=own)
    times = table["timestamp"].to_numpy()
    words = np.frombuffer(b"".join(hashes), dtype=">u8").reshape(-1, 4)
    order = np.lexsort((*words.T[::-1], times))
    table = table.take(pa.array(order))
    table = table.append_column("partition", _partitions(times[order], recipe))
    if own:
        names = [f"{part}-{number}" for number in range(first, first + len(order))]
        table = table.append_column("entity", pa.array(names, pa.string()))
    columns = schema(recipe)
    return SortedRows(table.select(columns.names).cast(columns), [hashes[row] for row in order])


def _partitions(times: Micros, recipe: Recipe) -> pa.Array:
    spans = spans_of(times, recipe.data.source.partition.period)
    indices = np.searchsorted([span.start for span in spans], times, side="right") - 1
    return pa.array([spans[int(index)].name for index in indices], pa.string())


def freeze(
    stream: Stream, split: WindowSplit, *, recipe: Recipe, request: WindowRequest, folder: Path
) -> Frozen:
    """Write the rows of a window and their manifest to an existing folder.

    Raises:
        Refused: a row is not valid, or the source changed meanwhile.
    """
    masks: dict[Part, Bools] = {
        "train": split.train,
        "holdout": split.holdout,
        "reserved": split.reserved,
    }
    columns, task = schema(recipe), task_of(recipe.model)
    writers = {
        part: _Writer(part, recipe, task, pq.ParquetWriter(folder / f"{part}.parquet", columns))
        for part in PARTS
    }
    with writers["train"], writers["holdout"], writers["reserved"]:
        for index, file_set in enumerate(stream.file_sets):
            rows = stream.rows_of(index)
            selected = {part: masks[part][rows] for part in PARTS}
            if not any(mask.any() for mask in selected.values()):
                continue
            indexed = stream.rows.moment[rows]
            parts = read_parts(file_set, recipe.data, indexed=indexed, masks=selected)
            for part, table in parts.items():
                writers[part].add(table, file_set.span.name if file_set.span else "")
    manifest = window_manifest(split, recipe, request) | {
        "rows": {part: writers[part].contents for part in PARTS}
    }
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    (folder / MANIFEST).write_bytes(text)
    return Frozen(
        digest="sha256:" + hashlib.sha256(text).hexdigest(),
        labels={part: writers[part].labels for part in PARTS},
    )


def window_manifest(split: WindowSplit, recipe: Recipe, request: WindowRequest) -> dict[str, Any]:
    """Return the manifest without the rows: the settings that identify the window."""
    bounds, data = split.bounds, recipe.data
    return {
        "from": _text(bounds.start),
        "to": _text(bounds.trained_through),
        "holdout": {
            "from": _text(bounds.holdout_from),
            "to": _text(bounds.holdout_to),
            "filter": data.holdout.filter.plain() if data.holdout.filter else None,
        },
        "quarantined": sorted(span.name for span in request.quarantined),
        "reserve": data.reserve.fraction if data.reserve else None,
        "columns": data.source.columns.plain(),
    }


def _text(count: int | None) -> str | None:
    return None if count is None else moment(count).isoformat()


def schema(recipe: Recipe) -> pa.Schema:
    """Return the columns of frozen rows."""
    names = list(frozen_columns(recipe.data.source.columns))
    kinds = {name: pa.float64() if name == "weight" else pa.string() for name in names}
    kinds |= {"timestamp": _TIMESTAMP, "entity": pa.string(), "partition": pa.string()}
    kinds["label"] = task_of(recipe.model).label_type
    return pa.schema(list(kinds.items()))
