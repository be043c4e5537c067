"""Reads the rows of one file in batches, by the reader of its format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_trainer.data.source.readers.csv_rows import read_csv
from springtide_trainer.data.source.readers.jsonl_rows import read_jsonl
from springtide_trainer.data.source.readers.lines import open_lines
from springtide_trainer.data.source.readers.parquet_rows import read_parquet
from springtide_trainer.data.source.readers.rows import batched

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from springtide_trainer.data.source.files import DataFile
    from springtide_trainer.data.source.readers.rows import RowBatch


def read_batches(
    file: DataFile, form: str, wanted: Mapping[str, str], read: Collection[str] | None = None
) -> Iterator[RowBatch]:
    """Read columns of a file.

    Args:
        file: The file.
        form: Parquet, CSV or JSONL.
        wanted: Column names, each with the path of the field that names it. All must exist.
        read: Names of those to read; None: all. JSONL has no columns that could be skipped.

    Raises:
        Refused: the file is damaged, or a column is missing.
    """
    names = [name for name in wanted if read is None or name in read]
    match form:
        case "CSV":
            with open_lines(file) as lines:
                yield from batched(read_csv(lines, wanted, names), names, file)
        case "JSONL":
            with open_lines(file) as lines:
                yield from batched(read_jsonl(lines, wanted), list(wanted), file)
        case _:
            yield from read_parquet(file, wanted, names)
