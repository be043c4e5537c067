"""Sorts rows by time and hash, more of them than fit in memory: sorted runs on disk, then merged.

A run is an Arrow file that is mapped, so neither its rows nor its keys are memory of this process.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from springtide_trainer.data.snapshots.frozen_rows import row_hashes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from springtide_trainer.data.partitions import Micros

STEP = 1 << 14
"""Rows of one run that a merge reads at a time."""
CHUNK_BYTES = 1 << 27
"""Bytes of all rows that it reads at a time, fewer rows if they are long."""
_HASH = "row hash"
_DIGEST = pa.binary(32)


@dataclass(frozen=True)
class SortedRows:
    """Rows sorted by time and, for equal times, by their hashes.

    Attributes:
        table: The rows; `timestamp` is in microseconds since 1970.
        times: int64 [rows].
        hashes: uint8 [rows, 32].
    """

    table: pa.Table
    times: Micros
    hashes: NDArray[np.uint8]

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.times)

    def key(self, row: int) -> tuple[int, bytes]:
        """Return what a row is sorted by."""
        return int(self.times[row]), self.hashes[row].tobytes()

    def part(self, first: int, last: int) -> SortedRows:
        """Return the rows from `first` up to `last`, excluded."""
        rows = slice(first, last)
        return SortedRows(
            self.table.slice(first, last - first), self.times[rows], self.hashes[rows]
        )


def sort(table: pa.Table) -> SortedRows:
    """Hash and sort rows. Without a column `entity` it is not part of the hash."""
    hashes = row_hashes(table, own_entity="entity" not in table.column_names)
    return _ordered(table, table["timestamp"].to_numpy(), hashes)


def _ordered(table: pa.Table, times: Micros, hashes: NDArray[np.uint8]) -> SortedRows:
    words = np.ascontiguousarray(hashes).view(">u8")
    order = np.lexsort((*words.T[::-1], times))
    return SortedRows(table.take(pa.array(order)), times[order], hashes[order])


def write_run(rows: SortedRows, path: Path) -> SortedRows:
    """Write sorted rows to a file; return them mapped."""
    hashes = pa.Array.from_buffers(
        _DIGEST, len(rows), [None, pa.py_buffer(np.ascontiguousarray(rows.hashes))]
    )
    table = rows.table.append_column(_HASH, hashes).combine_chunks()
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    mapped = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    digests = mapped[_HASH].chunk(0)
    found = np.frombuffer(digests.buffers()[1], np.uint8)[32 * digests.offset :]
    return SortedRows(
        table=mapped.drop_columns([_HASH]),
        times=mapped["timestamp"].chunk(0).to_numpy(),
        hashes=found[: 32 * len(rows)].reshape(-1, 32),
    )


def merge(runs: Sequence[SortedRows], step: int = STEP) -> Iterator[SortedRows]:
    """Yield the rows of sorted runs in their common order, in chunks.

    Each chunk has the rows up to the lowest of the keys that are `step` rows further in a run:
    at most `step` rows of each run, and those equal to the last one. The step is shorter for long
    rows.
    """
    of_each = sum(run.table.nbytes / max(len(run), 1) for run in runs)
    step = min(step, max(1, int(CHUNK_BYTES / max(of_each, 1))))
    at = [0] * len(runs)
    while any(start < len(run) for start, run in zip(at, runs, strict=True)):
        known = [
            run.key(start + step - 1)
            for start, run in zip(at, runs, strict=True)
            if start + step <= len(run)
        ]
        ends = [
            bisect_right(range(len(run)), min(known), lo=start, key=run.key) if known else len(run)
            for start, run in zip(at, runs, strict=True)
        ]
        parts = [run.part(*some) for run, *some in zip(runs, at, ends, strict=True)]
        yield _ordered(
            pa.concat_tables([part.table for part in parts]).combine_chunks(),
            np.concatenate([part.times for part in parts]),
            np.concatenate([part.hashes for part in parts]),
        )
        at = ends
