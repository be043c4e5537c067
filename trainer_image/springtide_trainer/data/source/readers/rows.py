"""Batches of rows of one file, and the errors that the readers of all formats share.

A file that cannot be read is refused with file and line, but without the text of the row, which may
be private. `values.py` interprets the values.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from springtide_trainer.data.source.files import DataFile

SOURCE = "data.source"
BATCH = 16_384
"""Rows of a batch."""
BATCH_BYTES = 1 << 26
"""A batch of long rows has fewer, so that it has about these bytes."""
_NUMBER = "number of the line"


@dataclass(frozen=True)
class RowBatch:
    """Consecutive rows of one file."""

    columns: Mapping[str, pa.Array]
    file: str
    unit: Literal["line", "row"]
    numbers: NDArray[np.int64]
    """Line (in Parquet: row) number of each row, from 1."""

    def location(self, index: int) -> str:
        """Return file and line of a row, for messages."""
        return f"{self.file!r} {self.unit} {self.numbers[index]:,}"


def chunk(
    columns: Sequence[pa.Array], numbers: Sequence[int] | NDArray[np.int64]
) -> pa.RecordBatch:
    """Return rows with the number of the line that each ends in, as the last column."""
    names = [str(position) for position in range(len(columns))]
    return pa.record_batch([*columns, pa.array(numbers, pa.int64())], [*names, _NUMBER])


def batched(
    chunks: Iterable[pa.RecordBatch], names: Sequence[str], file: DataFile, size: int = BATCH
) -> Iterator[RowBatch]:
    """Join chunks into batches of `size` rows, whatever reader each chunk came from.

    Those of long rows are smaller: they end with the chunk that reaches BATCH_BYTES. An error of
    the chunks is raised after all complete batches before it.
    """
    waiting: list[pa.RecordBatch] = []
    rows = 0
    for some in chunks:
        waiting.append(some)
        rows += some.num_rows
        if rows < size and sum(each.nbytes for each in waiting) < BATCH_BYTES:
            continue
        joined, whole = pa.concat_batches(waiting), rows // size * size or rows
        for start in range(0, whole, size):
            yield _batch(joined.slice(start, min(size, whole - start)), names, file)
        waiting, rows = [joined.slice(whole)], rows - whole
    if rows:
        yield _batch(pa.concat_batches(waiting), names, file)


def _batch(rows: pa.RecordBatch, names: Sequence[str], file: DataFile) -> RowBatch:
    *columns, numbers = rows.columns
    return RowBatch(dict(zip(names, columns, strict=True)), file.name, "line", numbers.to_numpy())


def check_names(file: DataFile, found: Sequence[str], wanted: Mapping[str, str]) -> None:
    """Check that a file has each wanted column once.

    Raises:
        Refused: a column is missing or occurs twice.
    """
    for name, field in wanted.items():
        if name not in found:
            raise missing_column(file.name, name, field, found)
        if found.count(name) > 1:
            hint = f"{file.name!r} has {found.count(name)} columns {name!r}; rename all but one"
            raise Refused("DuplicateColumn", hint, field)


def missing_column(file: str, name: str, field: str, found: Iterable[str]) -> Refused:
    """Return the error of a file that lacks a column, with the columns that it has."""
    names = [repr(one[:32]) for one in islice(found, 20)]
    hint = f"it has {', '.join(names)}; use one of these or add the column"
    return Refused("MissingColumn", f"{file!r} has no column {name!r}; {hint}", field)


def bad_line(reason: str, file: DataFile, number: int, message: str) -> Refused:
    """Return the error of a line."""
    return Refused(reason, f"{file.name!r} line {number:,}: {message}", SOURCE)
