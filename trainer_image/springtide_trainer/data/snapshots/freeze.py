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
import pyarrow.compute as pc
import pyarrow.parquet as pq

from springtide_trainer.data.partitions import moment, spans_of
from springtide_trainer.data.snapshots import sorting
from springtide_trainer.data.snapshots.frozen_rows import (
    MANIFEST,
    TIMESTAMP,
    PartitionDigests,
    own_entities,
    write_file_digests,
)
from springtide_trainer.data.snapshots.row_checks import NO_LABEL, check_rows
from springtide_trainer.data.source.stream import frozen_columns, read_parts
from springtide_trainer.data.windows.window import PARTS
from springtide_trainer.tasks.table import task_of

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from springtide_api.generation.spec import Recipe
    from springtide_trainer.data.partitions import Micros
    from springtide_trainer.data.snapshots.sorting import SortedRows
    from springtide_trainer.data.source.stream import Stream
    from springtide_trainer.data.windows.new_data import Bools, Codes, WindowRequest
    from springtide_trainer.data.windows.window import Part, WindowSplit
    from springtide_trainer.tasks.task import Labels

RUN = 1 << 18
"""Rows that are sorted in memory."""
RUN_BYTES = 1 << 27
"""Bytes of these rows: sorting takes a few times as much, and a pod that probes has 2 GiB."""
ROW_GROUP = 1 << 16
"""Rows of a row group of the Parquet files."""
GROUP_BYTES = 1 << 27
"""Bytes of texts of a row group; the row that reaches them is the last one."""


@dataclass(frozen=True)
class Frozen:
    """The frozen rows of a window."""

    digest: str
    labels: dict[Part, Counter[str]]
    """Number of rows of each label in each part."""


@dataclass
class _Writer:
    """Writes one part of the window to its file, one file set after the other.

    Rows wait in memory up to the size of a run, in rows or bytes. If a file set has more, its
    sorted runs are written to a scratch folder and merged.
    """

    part: Part
    recipe: Recipe
    task: Labels
    file: pq.ParquetWriter
    scratch: Path
    labels: Counter[str] = field(default_factory=Counter)
    contents: list[dict[str, object]] = field(default_factory=list)
    rows: int = 0
    _waiting: list[pa.Table] = field(default_factory=list)
    _waiting_bytes: int = 0
    _runs: list[SortedRows] = field(default_factory=list)
    _sorted: list[pa.Table] = field(default_factory=list)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and self._sorted:
            self._write(last=True)
        self.file.close()

    def add(self, table: pa.Table, partition: str) -> None:
        """Add rows of a file set, in any order."""
        self._waiting.append(table)
        self._waiting_bytes += table.nbytes
        if _size(self._waiting) >= RUN or self._waiting_bytes >= RUN_BYTES:
            path = self.scratch / f"{self.part}-{len(self._runs)}.arrow"
            self._runs.append(sorting.write_run(self._sort(partition), path))

    def end(self, partition: str) -> None:
        """Sort and write the rows of a file set, which are later than those written before."""
        if self._waiting:
            self._runs.append(self._sort(partition))
        digests = PartitionDigests()
        runs, self._runs = self._runs, []
        for rows in sorting.merge(runs) if len(runs) > 1 else runs:
            table = finish(rows, self.recipe, self.part, first=self.rows)
            digests.add(table["partition"], rows.hashes)
            self.labels.update(self.task.count(table["label"]))
            if self.unlabelled:
                del self.labels[NO_LABEL]
            self.rows += len(rows)
            self._sorted.append(table)
            size = sum(each.nbytes for each in self._sorted)
            if _size(self._sorted) >= ROW_GROUP or size >= GROUP_BYTES:
                self._write()
        self.contents += digests.plain()
        for path in self.scratch.glob(f"{self.part}-*.arrow"):
            path.unlink()

    def _sort(self, partition: str) -> SortedRows:
        """Check and sort the rows that wait."""
        table = pa.concat_tables(self._waiting).combine_chunks()
        self._waiting.clear()
        self._waiting_bytes = 0
        where = f"{self.part} rows" + (f" of {partition}" if partition else "")
        if first := sum(map(len, self._runs)):
            where += f", those after the first {first:,},"
        return sorting.sort(check_rows(table, self.task, where, unlabelled=self.unlabelled))

    @property
    def unlabelled(self) -> bool:
        """Whether rows may have no label: only training rows, for pseudo-labels."""
        return self.part == "train" and self.recipe.training.pseudo_labels is not None

    def _write(self, *, last: bool = False) -> None:
        """Write whole row groups; also a last one. They depend on the rows alone, not on runs."""
        table, start = pa.concat_tables(self._sorted), 0
        ends = _group_ends(_text_bytes(table))
        for end in [*ends, *([len(table)] if last and len(table) not in ends else [])]:
            self.file.write_table(table.slice(start, end - start), row_group_size=ROW_GROUP)
            start = end
        self._sorted = [table.slice(start)] if start < len(table) else []


def _size(tables: list[pa.Table]) -> int:
    return sum(map(len, tables))


def _text_bytes(table: pa.Table) -> Codes:
    """Return the bytes of the texts of each row: int64 [rows]."""
    found = np.zeros(len(table), np.int64)
    for column in table.columns:
        if pa.types.is_string(column.type):
            found += pc.fill_null(pc.binary_length(column), 0).to_numpy()
    return found


def _group_ends(sizes: Codes) -> list[int]:
    """Return after which rows a row group ends, if the first row begins one."""
    totals, ends, start, before = np.cumsum(sizes), [], 0, 0
    while start < len(sizes):
        end = 1 + int(np.searchsorted(totals, before + GROUP_BYTES))
        if (end := min(end, start + ROW_GROUP)) > len(sizes):
            break
        ends.append(end)
        start, before = end, int(totals[end - 1])
    return ends


def sort_rows(table: pa.Table, recipe: Recipe, part: str) -> pa.Table:
    """Return checked rows in the order and with the columns of frozen rows."""
    return finish(sorting.sort(table), recipe, part)


def finish(rows: SortedRows, recipe: Recipe, part: str, *, first: int = 0) -> pa.Table:
    """Return sorted rows with the columns of frozen rows.

    Args:
        rows: Checked and sorted rows.
        recipe: Names the columns and the period of a partition.
        part: Prefix of the entity of a row, if the source has no entity column.
        first: Number of the first row, for such an entity.
    """
    table = rows.table.append_column("partition", _partitions(rows.times, recipe))
    if "entity" not in table.column_names:
        names = pa.array(own_entities(part, first, len(rows)), pa.string())
        table = table.append_column("entity", names)
    columns = schema(recipe)
    return table.select(columns.names).cast(columns)


def _partitions(times: Micros, recipe: Recipe) -> pa.Array:
    spans = spans_of(times, recipe.data.source.partition.period)
    indices = np.searchsorted([span.start for span in spans], times, side="right") - 1
    return pa.array([span.name for span in spans], pa.string()).take(pa.array(indices))


def freeze(
    stream: Stream,
    split: WindowSplit,
    *,
    recipe: Recipe,
    request: WindowRequest,
    folder: Path,
    scratch: Path,
) -> Frozen:
    """Write the rows of a window and their manifest.

    Args:
        stream: The rows.
        split: The window.
        recipe: Names columns, labels and the period of a partition.
        request: Settings of the window, for the manifest.
        folder: An existing empty folder.
        scratch: An existing folder for runs that do not fit in memory.

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
        part: _Writer(
            part, recipe, task, pq.ParquetWriter(folder / f"{part}.parquet", columns), scratch
        )
        for part in PARTS
    }
    with writers["train"], writers["holdout"], writers["reserved"]:
        for index, file_set in enumerate(stream.file_sets):
            rows = stream.rows_of(index)
            selected = {part: masks[part][rows] for part in PARTS}
            if not any(mask.any() for mask in selected.values()):
                continue
            name = file_set.span.name if file_set.span else ""
            found = read_parts(
                file_set,
                recipe.data,
                indexed=stream.rows.moment[rows],
                digests=stream.digests[index],
                masks=selected,
                unlabelled=recipe.training.pseudo_labels is not None,
            )
            for part, table in found:
                writers[part].add(table, name)
            for writer in writers.values():
                writer.end(name)
    manifest = window_manifest(split, recipe, request) | {
        "rows": {part: writers[part].contents for part in PARTS}
    }
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    (folder / MANIFEST).write_bytes(text)
    write_file_digests(folder)
    return Frozen(
        digest="sha256:" + hashlib.sha256(text).hexdigest(),
        labels={part: writers[part].labels for part in PARTS},
    )


def window_manifest(split: WindowSplit, recipe: Recipe, request: WindowRequest) -> dict[str, Any]:
    """Return the manifest without the rows: the settings that identify the window."""
    bounds, data = split.bounds, recipe.data
    excluded = {
        # Only those that served rows here: the same rows have the same digest after a rollback.
        "excludedGenerations": sorted(split.excluded),
        "excludedRows": sum(split.excluded.values()),
    }
    return {
        **(excluded if data.source.columns.served_generation else {}),
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
    kinds |= {"timestamp": TIMESTAMP, "entity": pa.string(), "partition": pa.string()}
    kinds["label"] = task_of(recipe.model).label_type
    return pa.schema(list(kinds.items()))
