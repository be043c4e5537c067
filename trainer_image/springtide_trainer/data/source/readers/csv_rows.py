"""Reads CSV files: blocks of whole rows by pyarrow, and rows that are unusual by Python's reader.

A block is read by pyarrow if `_layout` finds only what both readers certainly read alike. Python's
reader, with `strict`, reads the rows of another block; then the next block is tried.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from springtide_trainer.data.source.readers.lines import MAX_LINE_BYTES, is_text
from springtide_trainer.data.source.readers.rows import (
    BATCH,
    BATCH_BYTES,
    SOURCE,
    bad_line,
    check_names,
    chunk,
)
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from springtide_trainer.data.source.readers.lines import Lines

_MAX_FIELD = 131_072
"""Characters of a field that Python's reader accepts, `csv.field_size_limit()`."""
_BOM = b"\xef\xbb\xbf"
_LF, _CR, _QUOTE, _COMMA = b'\n\r",'


def read_csv(
    lines: Lines,
    wanted: Mapping[str, str],
    names: Sequence[str],
    *,
    fast: bool = True,
    unusual: int = BATCH,
) -> Iterator[pa.RecordBatch]:
    """Read columns of a CSV file in chunks.

    Args:
        lines: The file.
        wanted: Columns that must exist, each with the path of the field that names it.
        names: Columns to read.
        fast: False: by Python's reader alone.
        unusual: Rows that Python's reader reads before the next block is tried.

    Raises:
        Refused: the file is empty or damaged, a column is missing, or a row is malformed.
    """
    header = _header(lines)
    check_names(lines.file, header, wanted)
    positions = [header.index(name) for name in names]
    parser = _Parser.of(len(header), positions)
    while (block := lines.hold()) or not lines.ended:
        layout = _layout(block, lines.ended) if fast else None
        rows = parser.parse(block, layout, lines.number) if layout else None
        if layout is None or rows is None:
            yield from _row_by_row(lines, len(header), positions, unusual)
            continue
        lines.take(layout.size, layout.lines)
        yield rows


def _header(lines: Lines) -> list[str]:
    reader = csv.reader(lines, strict=True)
    try:
        header = next(reader, None)
    except csv.Error as wrong:
        raise _malformed(lines, wrong) from wrong
    if not header:
        hint = "the file is empty (no header line); deliver it again"
        raise Refused("EmptyFile", f"{lines.file.name!r}: {hint}", SOURCE)
    return header


def _row_by_row(
    lines: Lines, width: int, positions: Sequence[int], count: int
) -> Iterator[pa.RecordBatch]:
    """Read some rows by Python's reader, fewer if they are long.

    At an error, yield those before it first.
    """
    rows: list[list[str]] = []
    numbers: list[int] = []
    size = 0
    try:
        for row in islice(csv.reader(lines, strict=True), count):
            if len(row) == width:
                rows.append([row[position] for position in positions])
                numbers.append(lines.number)
                size += sum(map(len, rows[-1]))
                if size >= BATCH_BYTES:
                    break
            elif row:
                hint = f"{len(row)} fields, but the header has {width}; quote commas in texts"
                raise bad_line("RaggedRow", lines.file, lines.number, hint)
    except csv.Error as wrong:
        yield from _texts(rows, numbers)
        raise _malformed(lines, wrong) from wrong
    except Refused:
        yield from _texts(rows, numbers)
        raise
    yield from _texts(rows, numbers)


def _texts(rows: list[list[str]], numbers: list[int]) -> Iterator[pa.RecordBatch]:
    if rows:
        yield chunk([pa.array(one, pa.string()) for one in zip(*rows, strict=True)], numbers)


def _malformed(lines: Lines, wrong: csv.Error) -> Refused:
    hint = f"{wrong}; close every quote, and double quotes inside a text"
    return bad_line("MalformedCsv", lines.file, lines.number, hint)


@dataclass(frozen=True)
class _Layout:
    """The whole rows of a block.

    Attributes:
        size: Bytes of these rows.
        lines: Lines of these rows.
        numbers: Of each row that is not blank, which of these lines it ends in, from 1.
    """

    size: int
    lines: int
    numbers: NDArray[np.int64]


def _layout(block: bytes, last: bool) -> _Layout | None:
    """Find the rows of a block; None if the readers might read them differently.

    A quote must open a field, close it, or be doubled in it: opening and closing quotes alternate,
    so a line break ends a row if the number of quotes before it is even.

    Args:
        block: Whole lines, and the start of another unless it is the last block.
        last: It is the last block, so its last line needs no line break.
    """
    data = np.frombuffer(block, np.uint8)
    breaks = np.flatnonzero(data == _LF)
    if last and len(block) and not block.endswith(b"\n"):
        breaks = np.append(breaks, len(block))
    quotes = np.flatnonzero(data == _QUOTE)
    row_ends = np.flatnonzero(np.searchsorted(quotes, breaks) % 2 == 0)
    if not len(row_ends):
        return None
    ends = breaks[row_ends]
    size = min(int(ends[-1]) + 1, len(block))
    if last and size < len(block):
        return None
    quotes = quotes[: np.searchsorted(quotes, size)]
    starts = np.append(0, ends[:-1] + 1)
    if (
        np.diff(breaks, prepend=-1).max() > MAX_LINE_BYTES
        or (ends - starts).max() > _MAX_FIELD
        or block.startswith(_BOM)
        or not is_text(block[:size])
        or not _quoted(data[:size], quotes)
        or not _carriage_returns(data[:size], quotes)
    ):
        return None
    lengths = ends - starts
    blank = (lengths == 0) | ((lengths == 1) & (data[starts] == _CR))
    return _Layout(size, int(row_ends[-1]) + 1, row_ends[~blank] + 1)


def _quoted(data: NDArray[np.uint8], quotes: NDArray[np.int64]) -> bool:
    """Return whether each quote opens or closes a field, or is one of two inside a field."""
    opening, closing = quotes[::2], quotes[1::2]
    before = data[opening[opening > 0] - 1]
    after = data[closing[closing < len(data) - 1] + 1]
    return bool(
        np.isin(before, (_COMMA, _LF, _QUOTE)).all()
        and np.isin(after, (_COMMA, _LF, _CR, _QUOTE)).all()
    )


def _carriage_returns(data: NDArray[np.uint8], quotes: NDArray[np.int64]) -> bool:
    """Return whether each carriage return outside quotes is followed by a line feed."""
    found = np.flatnonzero(data == _CR)
    outside = found[np.searchsorted(quotes, found) % 2 == 0]
    if not len(outside):
        return True
    return bool(outside[-1] + 1 < len(data) and (data[outside + 1] == _LF).all())


@dataclass(frozen=True)
class _Parser:
    """pyarrow's reader of rows as strings, without values that mean null."""

    width: int
    options: pa_csv.ConvertOptions

    @staticmethod
    def of(width: int, positions: Sequence[int]) -> _Parser:
        """Return the parser of these columns of a file."""
        names = [str(position) for position in positions]
        options = pa_csv.ConvertOptions(
            check_utf8=False,
            column_types=dict.fromkeys(names, pa.string()),
            strings_can_be_null=False,
            include_columns=names,
        )
        return _Parser(width, options)

    def parse(self, block: bytes, layout: _Layout, before: int) -> pa.RecordBatch | None:
        """Return the rows of a block after `before` lines; None if one has too many fields."""
        if not len(layout.numbers):
            return chunk([pa.array([], pa.string())] * len(self.options.include_columns), [])
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(pa.py_buffer(block).slice(0, layout.size)),
                read_options=pa_csv.ReadOptions(
                    use_threads=False,
                    block_size=layout.size + 1,
                    column_names=[str(position) for position in range(self.width)],
                ),
                parse_options=pa_csv.ParseOptions(newlines_in_values=True),
                convert_options=self.options,
            )
        except pa.ArrowInvalid:
            return None
        if len(table) != len(layout.numbers):
            return None
        return chunk([column.combine_chunks() for column in table.columns], before + layout.numbers)
