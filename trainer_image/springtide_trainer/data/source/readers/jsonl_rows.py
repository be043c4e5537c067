"""Reads JSON lines: blocks of lines by pyarrow, and lines that are unusual by Python's parser.

Python's parser reads the first lines, and learns the type of each column. A block is read by
pyarrow if each line is certainly one object and the values have these types; else Python's parser
reads the next rows and learns the types again.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pa_json

from springtide_trainer.data.source.readers.jsonl_blocks import (
    EXACT,
    as_texts,
    certain_lines,
    type_of,
)
from springtide_trainer.data.source.readers.label_lists import LABEL, write_list
from springtide_trainer.data.source.readers.lines import open_lines
from springtide_trainer.data.source.readers.rows import (
    BATCH,
    BATCH_BYTES,
    bad_line,
    chunk,
    missing_column,
)
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from springtide_trainer.data.source.readers.lines import Lines

_OBJECT = "write one object with a value for each column on every line"
_FIRST = 64


@dataclass
class _Reader:
    """Reads one file.

    Attributes:
        lines: The file.
        wanted: Columns to read, each with the path of the field that names it.
        found: All names in the rows that Python's parser read, in order of occurrence.
        present: Wanted columns with a value in any row.
        schema: Types of the columns in the last rows that Python's parser read.
        rows: Number of rows so far.
    """

    lines: Lines
    wanted: Mapping[str, str]
    found: dict[str, None] = field(default_factory=dict)
    present: set[str] = field(default_factory=set)
    schema: pa.Schema = field(default_factory=lambda: pa.schema([]))
    rows: int = 0

    def row_by_row(self, count: int) -> Iterator[pa.RecordBatch]:
        """Read some rows by Python's parser, fewer if they are long.

        At an error, yield those before it first.
        """
        rows: list[list[str | None]] = []
        numbers: list[int] = []
        size = 0
        kinds: defaultdict[str, set[type]] = defaultdict(set)
        try:
            for row in islice(self._objects(), count):
                self.found.update(dict.fromkeys(row))
                values = {name: row.get(name) for name in self.wanted}
                rows.append([self._text(name, value) for name, value in values.items()])
                numbers.append(self.lines.number)
                for name, value in values.items():
                    kinds[name].add(type(value))
                size += sum(len(text) for text in rows[-1] if text)
                if size >= BATCH_BYTES:
                    break
        except Refused:
            yield from self._chunk(rows, numbers)
            raise
        self.schema = pa.schema([(name, type_of(kinds[name])) for name in self.wanted])
        yield from self._chunk(rows, numbers)

    def block(self, block: bytes) -> pa.RecordBatch | None:
        """Read the lines of a block by pyarrow, and take them; None: it may read them otherwise."""
        ends = certain_lines(block, self.lines.ended)
        if ends is None:
            return None
        size = min(int(ends[-1]) + 1, len(block))
        read = pa_json.ReadOptions(use_threads=False, block_size=size + 1)
        parse = pa_json.ParseOptions(
            explicit_schema=self.schema, unexpected_field_behavior="ignore"
        )
        try:
            source = pa.BufferReader(pa.py_buffer(block).slice(0, size))
            table = pa_json.read_json(source, read_options=read, parse_options=parse)
            columns = [as_texts(table[name].combine_chunks()) for name in self.wanted]
        except pa.ArrowInvalid:
            return None
        if len(table) != len(ends) or any(column is None for column in columns):
            return None
        first = self.lines.number + 1
        self.lines.take(size, len(ends))
        return self._counted(chunk(columns, np.arange(first, first + len(ends))))

    def check_present(self) -> None:
        """Check that each column occurs in any row.

        Raises:
            Refused: a column is missing.
        """
        if not self.rows or self.wanted.keys() <= self.present | self.found.keys():
            return
        with open_lines(self.lines.file) as lines:
            again = _Reader(lines, self.wanted)
            for row in again._objects():
                again.found.update(dict.fromkeys(row))
                if self.wanted.keys() <= self.present | again.found.keys():
                    return
        for name, path in self.wanted.items():
            if again.found and name not in again.found:
                raise missing_column(lines.file.name, name, path, again.found)

    def _objects(self) -> Iterator[dict[str, Any]]:
        for line in self.lines:
            if line.strip():
                yield _object(self.lines, line)

    def _text(self, name: str, value: Any) -> str | None:
        """Convert a JSON value to text like the same value in Parquet; NaN is null."""
        match value:
            case None:
                return None
            case str():
                return self._encodable(name, value)
            case bool():
                return "true" if value else "false"
            case int():
                return str(value)
            case float():
                if math.isnan(value):
                    return None
                whole = value.is_integer() and abs(value) < EXACT
                return str(int(value)) if whole else repr(value)
            case list() if self._is_label_list(name, value):
                return self._encodable(name, write_list(value))
        hint = f"column {name!r} is a list or an object; write it as a string"
        raise bad_line("UnsupportedType", self.lines.file, self.lines.number, hint)

    def _is_label_list(self, name: str, value: list[Any]) -> bool:
        return self.wanted[name] == LABEL and all(isinstance(one, str) for one in value)

    def _encodable(self, name: str, value: str) -> str:
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError as wrong:
                hint = (
                    f"column {name!r} has a \\u escape that is an incomplete surrogate pair; write "
                    "the text in UTF-8"
                )
                raise bad_line("NotUtf8", self.lines.file, self.lines.number, hint) from wrong
        return value

    def _chunk(self, rows: list[list[str | None]], numbers: list[int]) -> Iterator[pa.RecordBatch]:
        if rows:
            columns = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
            yield self._counted(chunk(columns, numbers))

    def _counted(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        self.rows += rows.num_rows
        self.present |= {
            name
            for name, column in zip(self.wanted, rows.columns, strict=False)
            if column.null_count < len(column)
        }
        return rows


def read_jsonl(
    lines: Lines,
    wanted: Mapping[str, str],
    *,
    fast: bool = True,
    first: int = _FIRST,
    unusual: int = BATCH,
) -> Iterator[pa.RecordBatch]:
    """Read columns of JSON lines in chunks.

    Args:
        lines: The file.
        wanted: Columns to read, each with the path of the field that names it.
        fast: False: by Python's parser alone.
        first: Rows that Python's parser reads first.
        unusual: Rows that it reads before the next block is tried.

    Raises:
        Refused: the file is damaged, a line is malformed, or a column is in no row.
    """
    reader = _Reader(lines, wanted)
    yield from reader.row_by_row(first)
    while (block := lines.hold()) or not lines.ended:
        rows = reader.block(block) if fast else None
        if rows is None:
            yield from reader.row_by_row(unusual)
        else:
            yield rows
    reader.check_present()


def _object(lines: Lines, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as wrong:
        hint = f"invalid JSON ({wrong.msg} at character {wrong.pos + 1}); {_OBJECT}"
        raise bad_line("MalformedJson", lines.file, lines.number, hint) from wrong
    except (ValueError, RecursionError) as wrong:
        hint = f"nested too deeply; {_OBJECT}"
        raise bad_line("MalformedJson", lines.file, lines.number, hint) from wrong
    if not isinstance(row, dict):
        hint = f"not a JSON object; {_OBJECT}"
        raise bad_line("MalformedJson", lines.file, lines.number, hint)
    return row
