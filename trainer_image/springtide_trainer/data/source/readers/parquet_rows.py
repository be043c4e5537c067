"""Reads Parquet files: only the wanted columns, in batches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from springtide_trainer.data.source.readers.rows import (
    BATCH,
    BATCH_BYTES,
    SOURCE,
    RowBatch,
    check_names,
)
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from springtide_trainer.data.source.files import DataFile


def read_parquet(
    file: DataFile, wanted: Mapping[str, str], names: Sequence[str]
) -> Iterator[RowBatch]:
    """Read columns of a Parquet file.

    Args:
        file: The file.
        wanted: Columns that must exist, each with the path of the field that names it.
        names: Columns to read.

    Raises:
        Refused: the file is empty or damaged, or a column is missing.
    """
    size = file.state().size
    if size == 0:
        raise Refused("EmptyFile", f"{file.name!r} has 0 bytes; deliver it again", SOURCE)
    try:
        with pq.ParquetFile(_source(file)) as opened:
            check_names(file, opened.schema_arrow.names, wanted)
            seen = 0
            for batch in opened.iter_batches(_rows_at_once(opened, names), columns=list(names)):
                columns = {name: batch.column(name) for name in names}
                numbers = np.arange(seen + 1, seen + 1 + batch.num_rows)
                yield RowBatch(columns, file.name, "row", numbers)
                seen += batch.num_rows
    except (pa.ArrowInvalid, OSError) as wrong:
        if isinstance(wrong, OSError) and wrong.errno is not None:  # of the disk, not of the file
            raise
        hint = f"{size:,} bytes that are not a complete Parquet file; deliver it again"
        raise Refused("CorruptFile", f"{file.name!r}: {hint}", SOURCE) from wrong


def _rows_at_once(opened: pq.ParquetFile, names: Sequence[str]) -> int:
    """Return the rows of a batch: fewer if they are long."""
    known = opened.metadata
    groups = [known.row_group(number) for number in range(known.num_row_groups)]
    if not known.num_rows:
        return BATCH
    paths = [groups[0].column(index).path_in_schema for index in range(known.num_columns)]
    read = [at for at, path in enumerate(paths) if {path, path.partition(".")[0]} & {*names}]
    size: int = sum(
        group.column(index).total_uncompressed_size for group in groups for index in read
    )
    fitting: int = BATCH_BYTES * known.num_rows // max(size, 1)
    return max(1, min(BATCH, fitting))


def _source(file: DataFile) -> Path | pa.PythonFile:
    """Return what pyarrow reads: a path, or a file of an object store."""
    return file.path if isinstance(file.path, Path) else pa.PythonFile(file.open(), mode="r")
