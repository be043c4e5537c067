"""Reads the rows of one file in batches: CSV, JSON lines or Parquet.

A file that cannot be read is refused with file and line, but without the text of the row, which may
be private. `values.py` interprets the values.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from springtide_trainer.data.source.files import DataFile

SOURCE = "data.source"
_BATCH = 16_384
_MAX_LINE_BYTES = 2**20
"""Maximum bytes of one line."""
_OBJECT = "write one object with a value for each column on every line"


@dataclass(frozen=True)
class RowBatch:
    """Consecutive rows of one file."""

    columns: Mapping[str, pa.Array]
    file: str
    unit: Literal["line", "row"]
    numbers: Sequence[int]
    """Line (in Parquet: row) number of each row, from 1."""

    def location(self, index: int) -> str:
        """Return file and line of a row, for messages."""
        return f"{self.file!r} {self.unit} {self.numbers[index]:,}"


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
    match form:
        case "CSV":
            names = _chosen(wanted, read)
            yield from _batched(_csv(file, wanted, names), names, file)
        case "JSONL":
            rows = _json(file, wanted)
            yield from _batched(rows, list(wanted), file)
        case _:
            yield from _parquet(file, wanted, _chosen(wanted, read))


def _chosen(wanted: Mapping[str, str], read: Collection[str] | None) -> list[str]:
    return [name for name in wanted if read is None or name in read]


def _batched(
    rows: Iterator[tuple[int, list[Any]]], names: list[str], file: DataFile
) -> Iterator[RowBatch]:
    while some := list(islice(rows, _BATCH)):
        numbers = [number for number, _ in some]
        values = zip(*(row for _, row in some), strict=True)
        try:
            arrays = [pa.array(column, pa.string()) for column in values]
        except UnicodeEncodeError as wrong:
            where = f"{file.name!r} lines {numbers[0]:,} to {numbers[-1]:,}"
            hint = "a \\u escape is an incomplete surrogate pair; write the text in UTF-8"
            raise Refused("NotUtf8", f"{where}: {hint}", SOURCE) from wrong
        yield RowBatch(dict(zip(names, arrays, strict=True)), file.name, "line", numbers)


def _lines(file: DataFile) -> Iterator[tuple[int, str]]:
    """Read lines of UTF-8, with gzip if the file's name ends in .gz."""
    number = 0
    with _whole(file, lambda: number):
        opened = gzip.open if file.path.suffix == ".gz" else open
        with opened(file.path, "rb") as stream:
            while line := stream.readline(_MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > _MAX_LINE_BYTES:
                    hint = (
                        f"more than {_MAX_LINE_BYTES:,} bytes in one row; is a line break missing?"
                    )
                    raise _wrong("LineTooLong", file, number, hint)
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as wrong:
                    hint = f"byte {wrong.start + 1} is not valid UTF-8; write the file in UTF-8"
                    raise _wrong("NotUtf8", file, number, hint) from wrong


@contextmanager
def _whole(file: DataFile, number: Callable[[], int]) -> Iterator[None]:
    """Refuse a damaged file, whichever library detects it."""
    try:
        yield
    except EOFError as wrong:
        hint = "the gzip stream is truncated; deliver the whole file"
        raise _wrong("TruncatedFile", file, number() + 1, hint) from wrong
    except (gzip.BadGzipFile, zlib.error) as wrong:
        hint = "the gzip stream is damaged; deliver the file again"
        if number():
            raise _wrong("CorruptFile", file, number() + 1, hint) from wrong
        hint = "named .gz but not a gzip stream; compress it, or remove .gz from its name"
        raise Refused("CorruptFile", f"{file.name!r}: {hint}", SOURCE) from wrong


def _wrong(reason: str, file: DataFile, number: int, message: str) -> Refused:
    return Refused(reason, f"{file.name!r} line {number:,}: {message}", SOURCE)


def _csv(
    file: DataFile, wanted: Mapping[str, str], names: Sequence[str]
) -> Iterator[tuple[int, list[Any]]]:
    reader = csv.reader((line for _, line in _lines(file)), strict=True)
    try:
        header = next(reader, None)
        if not header:
            hint = "the file is empty (no header line); deliver it again"
            raise Refused("EmptyFile", f"{file.name!r}: {hint}", SOURCE)
        _check_names(file, header, wanted)
        positions = [header.index(name) for name in names]
        for row in reader:
            if len(row) == len(header):
                yield reader.line_num, [row[position] for position in positions]
            elif row:
                hint = f"{len(row)} fields, but the header has {len(header)}; quote commas in texts"
                raise _wrong("RaggedRow", file, reader.line_num, hint)
    except csv.Error as wrong:
        hint = f"{wrong}; close every quote, and double quotes inside a text"
        raise _wrong("MalformedCsv", file, reader.line_num, hint) from wrong


def _check_names(file: DataFile, found: Sequence[str], wanted: Mapping[str, str]) -> None:
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


def _json(file: DataFile, wanted: Mapping[str, str]) -> Iterator[tuple[int, list[Any]]]:
    found: dict[str, None] = {}
    for number, line in _lines(file):
        if not line.strip():
            continue
        row = _object(file, number, line)
        found.update(dict.fromkeys(row))
        yield number, [_plain(file, number, name, row.get(name)) for name in wanted]
    for name, field in wanted.items():
        if found and name not in found:
            raise missing_column(file.name, name, field, found)


def _object(file: DataFile, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as wrong:
        hint = f"invalid JSON ({wrong.msg} at character {wrong.pos + 1}); {_OBJECT}"
        raise _wrong("MalformedJson", file, number, hint) from wrong
    except (ValueError, RecursionError) as wrong:
        raise _wrong("MalformedJson", file, number, f"nested too deeply; {_OBJECT}") from wrong
    if not isinstance(row, dict):
        raise _wrong("MalformedJson", file, number, f"not a JSON object; {_OBJECT}")
    return row


def _plain(file: DataFile, number: int, name: str, value: Any) -> str | None:
    """Convert a JSON value to text like the same value in Parquet; NaN is null."""
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            if math.isnan(value):
                return None
            return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    hint = f"column {name!r} is a list or an object; write it as a string"
    raise _wrong("UnsupportedType", file, number, hint)


def _parquet(file: DataFile, wanted: Mapping[str, str], names: Sequence[str]) -> Iterator[RowBatch]:
    if file.path.stat().st_size == 0:
        raise Refused("EmptyFile", f"{file.name!r} has 0 bytes; deliver it again", SOURCE)
    try:
        with pq.ParquetFile(file.path) as opened:
            _check_names(file, opened.schema_arrow.names, wanted)
            seen = 0
            for batch in opened.iter_batches(_BATCH, columns=list(names)):
                columns = {name: batch.column(name) for name in names}
                numbers = range(seen + 1, seen + 1 + batch.num_rows)
                yield RowBatch(columns, file.name, "row", numbers)
                seen += batch.num_rows
    except PermissionError:
        raise
    except (pa.ArrowInvalid, OSError) as wrong:
        size = file.path.stat().st_size
        hint = f"{size:,} bytes that are not a complete Parquet file; deliver it again"
        raise Refused("CorruptFile", f"{file.name!r}: {hint}", SOURCE) from wrong
