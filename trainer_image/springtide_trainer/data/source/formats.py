"""Rows of one file as they are written there: CSV, JSON lines or Parquet, in batches.

What cannot be read is refused with file and line, and without a word of the row's text: it may be
private. What the values mean is left to `values.py`.
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
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from springtide_trainer.data.source.files import DataFile

SOURCE = "data.source"
_BATCH = 16_384
_LONGEST = 2**20
"""Bytes of one line at most."""
_OBJECT = "write one object with a value for each column on every line"


@dataclass(frozen=True)
class Batch:
    """Some rows of one file, in its order."""

    columns: Mapping[str, pa.Array]
    file: str
    unit: Literal["line", "row"]
    numbers: Sequence[int]
    """Line (or in Parquet row) of each, from 1."""

    def place(self, at: int) -> str:
        """Say where a row lies."""
        return f"{self.file!r} {self.unit} {self.numbers[at]:,}"


def batches(file: DataFile, form: str, wanted: Mapping[str, str]) -> Iterator[Batch]:
    """Read the wanted columns of a file.

    Args:
        file: The file.
        form: Parquet, CSV or JSONL.
        wanted: Column names, each with the path of the field that asks for it.

    Raises:
        Refused: the file is damaged, or a column is missing.
    """
    match form:
        case "CSV":
            rows = _csv(file, wanted)
            yield from _batched(rows, list(wanted), file)
        case "JSONL":
            rows = _json(file, wanted)
            yield from _batched(rows, list(wanted), file)
        case _:
            yield from _parquet(file, wanted)


def _batched(
    rows: Iterator[tuple[int, list[Any]]], names: list[str], file: DataFile
) -> Iterator[Batch]:
    while some := list(islice(rows, _BATCH)):
        numbers = [number for number, _ in some]
        values = zip(*(row for _, row in some), strict=True)
        try:
            arrays = [pa.array(column, pa.string()) for column in values]
        except UnicodeEncodeError as wrong:
            where = f"{file.name!r} lines {numbers[0]:,} to {numbers[-1]:,}"
            hint = "a \\u escape is half a character; write the text in UTF-8"
            raise Refused("NotUtf8", f"{where}: {hint}", SOURCE) from wrong
        yield Batch(dict(zip(names, arrays, strict=True)), file.name, "line", numbers)


def _lines(file: DataFile) -> Iterator[tuple[int, str]]:
    """Read lines of UTF-8, through gzip if the name says so."""
    number = 0
    with _whole(file, lambda: number):
        opened = gzip.open if file.path.suffix == ".gz" else open
        with opened(file.path, "rb") as stream:
            while line := stream.readline(_LONGEST + 1):
                number += 1
                if len(line) > _LONGEST:
                    hint = f"more than {_LONGEST:,} bytes in one row; is a line break missing?"
                    raise _wrong("LineTooLong", file, number, hint)
                try:
                    yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as wrong:
                    hint = f"byte {wrong.start + 1} is no UTF-8; write the file in UTF-8"
                    raise _wrong("NotUtf8", file, number, hint) from wrong


@contextmanager
def _whole(file: DataFile, number: Callable[[], int]) -> Iterator[None]:
    """Refuse a file whose bytes are damaged, whichever library finds it."""
    try:
        yield
    except EOFError as wrong:
        hint = "the gzip stream ends early; deliver the whole file"
        raise _wrong("TruncatedFile", file, number() + 1, hint) from wrong
    except (gzip.BadGzipFile, zlib.error) as wrong:
        hint = "the gzip stream is damaged; deliver the file again"
        if number():
            raise _wrong("CorruptFile", file, number() + 1, hint) from wrong
        hint = "named .gz but no gzip stream; compress it, or take .gz off its name"
        raise Refused("CorruptFile", f"{file.name!r}: {hint}", SOURCE) from wrong


def _wrong(reason: str, file: DataFile, number: int, message: str) -> Refused:
    return Refused(reason, f"{file.name!r} line {number:,}: {message}", SOURCE)


def _csv(file: DataFile, wanted: Mapping[str, str]) -> Iterator[tuple[int, list[Any]]]:
    reader = csv.reader((line for _, line in _lines(file)), strict=True)
    try:
        header = next(reader, None)
        if not header:
            hint = "0 rows and no header line; deliver the file again"
            raise Refused("EmptyFile", f"{file.name!r}: {hint}", SOURCE)
        places = _places(file, header, wanted)
        for row in reader:
            if len(row) == len(header):
                yield reader.line_num, [row[place] for place in places]
            elif row:
                hint = f"{len(row)} fields, the header has {len(header)}; quote commas in texts"
                raise _wrong("RaggedRow", file, reader.line_num, hint)
    except csv.Error as wrong:
        hint = f"{wrong}; close every quote, and double those inside a text"
        raise _wrong("MalformedCsv", file, reader.line_num, hint) from wrong


def _places(file: DataFile, found: Sequence[str], wanted: Mapping[str, str]) -> list[int]:
    for name, field in wanted.items():
        if name not in found:
            raise missing_column(file.name, name, field, found)
        if found.count(name) > 1:
            hint = f"{file.name!r} has {found.count(name)} columns {name!r}; rename all but one"
            raise Refused("DuplicateColumn", hint, field)
    return [found.index(name) for name in wanted]


def missing_column(file: str, name: str, field: str, found: Iterable[str]) -> Refused:
    """Refuse a file that lacks a column, naming those that it has."""
    names = [repr(one[:32]) for one in islice(found, 20)]
    hint = f"it has {', '.join(names)}; name one of them or deliver the column"
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
        hint = f"no JSON ({wrong.msg} at character {wrong.pos + 1}); {_OBJECT}"
        raise _wrong("MalformedJson", file, number, hint) from wrong
    except (ValueError, RecursionError) as wrong:
        raise _wrong("MalformedJson", file, number, f"nested too deep; {_OBJECT}") from wrong
    if not isinstance(row, dict):
        raise _wrong("MalformedJson", file, number, f"no JSON object; {_OBJECT}")
    return row


def _plain(file: DataFile, number: int, name: str, value: Any) -> str | None:
    """Write a JSON value as Parquet's would be written; NaN is no value."""
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
    hint = f"column {name!r} is a list or an object; write it as text"
    raise _wrong("UnsupportedType", file, number, hint)


def _parquet(file: DataFile, wanted: Mapping[str, str]) -> Iterator[Batch]:
    if file.path.stat().st_size == 0:
        raise Refused("EmptyFile", f"{file.name!r}: 0 bytes; deliver the file again", SOURCE)
    try:
        with pq.ParquetFile(file.path) as opened:
            _places(file, opened.schema_arrow.names, wanted)
            seen = 0
            for batch in opened.iter_batches(_BATCH, columns=list(wanted)):
                columns = {name: batch.column(name) for name in wanted}
                numbers = range(seen + 1, seen + 1 + batch.num_rows)
                yield Batch(columns, file.name, "row", numbers)
                seen += batch.num_rows
    except PermissionError:
        raise
    except (pa.ArrowInvalid, OSError) as wrong:
        size = file.path.stat().st_size
        hint = f"{size:,} bytes that are no whole Parquet file; deliver it again"
        raise Refused("CorruptFile", f"{file.name!r}: {hint}", SOURCE) from wrong
