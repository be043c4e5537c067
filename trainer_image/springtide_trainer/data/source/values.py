"""Converts column values: any column to text, timestamps to microseconds since 1970 in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from springtide_trainer.data.partitions import EPOCH, LAST_YEAR
from springtide_trainer.data.source.readers.label_lists import (
    LABEL,
    is_list_of_texts,
    write_lists,
)
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from springtide_trainer.data.partitions import Micros
    from springtide_trainer.data.source.readers.rows import RowBatch
    from springtide_trainer.data.windows.new_data import Bools

TIMESTAMP = "data.source.columns.timestamp"
SERVED = "data.source.columns.servedGeneration"
_WRITTEN = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII
)
_COMMON = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]([01]\d|2[0-3]):?[0-5]\d)?)?$"
_ZONED = r"[T ].*(Z|[+-]\d\d:?\d\d)$"
_FIRST_YEAR = (datetime.min.replace(tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
_LAST_YEAR = (datetime(LAST_YEAR + 1, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)
"""Where the last year ends."""
_YEARS = f"the years 1 to {LAST_YEAR}"
_MICROSECOND = timedelta(microseconds=1)
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
_WHOLE = r"^(?:(-?\d+)\.0+|(0)E-\d+)$", r"\1\2"
"""Cuts the scale of a whole decimal, which is written as 5.00; zero may be 0E-18."""
_SIMPLE = (
    pa.types.is_integer,
    pa.types.is_boolean,
    pa.types.is_null,
    pa.types.is_date,
    pa.types.is_timestamp,
)


def texts(batch: RowBatch, name: str, field: str) -> pa.Array:
    """Return a column as strings. Whole numbers are equal in every format, NaN is null.

    A label column may have lists of strings: they are written as JSON.

    Raises:
        Refused: the bytes are not UTF-8, or the column has lists or structures.
    """
    column = _decoded(batch.columns[name])
    kind = column.type
    try:
        if _any(_TEXTS, kind):
            column.validate(full=True)
        elif field == LABEL and is_list_of_texts(kind):
            column.validate(full=True)
            return write_lists(column)
        elif pa.types.is_floating(kind):
            return _decimal(column.cast(pa.float64()))
        elif pa.types.is_decimal(kind):
            return pc.replace_substring_regex(column.cast(pa.string()), *_WHOLE)
        elif not (_any(_BYTES, kind) or _any(_SIMPLE, kind)):
            hint = f"{batch.file!r}: column {name!r} has type {str(kind)[:64]}; write it as string"
            raise Refused("UnsupportedType", hint, field)
        return column.cast(pa.string())
    except pa.ArrowInvalid as wrong:
        where = f"{batch.file!r} rows {batch.numbers[0]:,} to {batch.numbers[-1]:,}"
        hint = f"{where}: column {name!r} is not valid UTF-8; write it in UTF-8"
        raise Refused("NotUtf8", hint, field) from wrong


def _decimal(column: pa.Array) -> pa.Array:
    """Convert numbers to their shortest text; whole numbers have no decimal point."""
    column = pc.if_else(pc.is_nan(column), pa.scalar(None, pa.float64()), column)
    whole = pc.and_(pc.equal(pc.floor(column), column), pc.less(pc.abs(column), 2.0**53))
    counts = column.cast(pa.int64(), safe=False).cast(pa.string())
    return pc.if_else(whole, counts, column.cast(pa.string()))


def generations(batch: RowBatch, name: str) -> pa.Array:
    """Return a column with numbers of generations as strings such as "6"; empty for none.

    Raises:
        Refused: a value is neither empty nor a number, such as the name of a generation.
    """
    column = pc.utf8_trim_whitespace(pc.fill_null(texts(batch, name, SERVED), ""))
    readable = pc.match_substring_regex(column, r"^(0*[0-9]{1,10}(\.0+)?)?$")
    if not pc.all(readable, min_count=0).as_py():
        wrong = np.flatnonzero(~readable.to_numpy(zero_copy_only=False))
        index, count = int(wrong[0]), f"at least {len(wrong):,} such rows"
        hint = (
            f"{batch.location(index)}: a value like {_shape(column[index].as_py())!r} in {name!r} "
            f"is no number of a generation ({count}); write the number, such as 6, and nothing in "
            "rows that no generation served"
        )
        raise Refused("InvalidServedGeneration", hint, SERVED)
    return pc.replace_substring_regex(column, r"^0*([0-9]+?)(\.0+)?$", r"\1")


def timestamps(batch: RowBatch, name: str, newest: datetime | None = None) -> Micros:
    """Return a timestamp column.

    Args:
        batch: Rows.
        name: The column.
        newest: Later timestamps are refused. They come from a wrong clock, zone or unit, and
            their rows would wait for a partition that never completes.

    Raises:
        Refused: a timestamp is missing, unreadable, in the future or outside of the calendar.
    """
    column = _decoded(batch.columns[name])
    if column.null_count:
        where = batch.location(int(np.argmax(column.is_null().to_numpy(zero_copy_only=False))))
        count = f"at least {column.null_count:,} such rows"
        hint = f"{where} has no timestamp in {name!r} ({count}); fix or remove these rows"
        raise Refused("MissingTimestamp", hint, TIMESTAMP)
    written = _any(_TEXTS, column.type)
    counts = (
        _parsed(batch, texts(batch, name, TIMESTAMP)) if written else _native(batch, name, column)
    )
    if newest is not None:
        hint = f"is later than {newest.isoformat()}; check its time zone and unit"
        late = counts > (newest - EPOCH) // _MICROSECOND
        _refuse_any(batch, late, "FutureTimestamp", hint)
    outside = (counts < _FIRST_YEAR) | (counts >= _LAST_YEAR)
    _refuse_any(batch, outside, "UnreadableTimestamp", f"is not in {_YEARS}; check its unit")
    return counts


def _refuse_any(batch: RowBatch, wrong: Bools, reason: str, hint: str) -> None:
    """Refuse rows whose timestamp is wrong, with the first one and their number."""
    if wrong.any():
        where = batch.location(int(np.argmax(wrong)))
        count = f"at least {np.count_nonzero(wrong):,} such rows"
        raise Refused(reason, f"{where}: the timestamp {hint} ({count})", TIMESTAMP)


def _native(batch: RowBatch, name: str, column: pa.Array) -> Micros:
    """Convert Parquet timestamps. Without a zone they are UTC; nanoseconds are truncated."""
    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        hint = f"{batch.file!r}: column {name!r} has type {str(column.type)[:64]}; write timestamps"
        raise Refused("UnreadableTimestamp", hint, TIMESTAMP)
    zone = column.type.tz if pa.types.is_timestamp(column.type) else None
    options = pc.CastOptions(pa.timestamp("us", zone), allow_time_truncate=True)
    try:
        counts = column.cast(options=options).cast(pa.int64())
    except pa.ArrowInvalid as wrong:
        hint = f"{batch.file!r}: column {name!r} has a timestamp that is not in {_YEARS}; fix it"
        raise Refused("UnreadableTimestamp", hint, TIMESTAMP) from wrong
    return np.asarray(counts.to_numpy(zero_copy_only=False), dtype=np.int64)


def _parsed(batch: RowBatch, column: pa.Array) -> Micros:
    common = _common(column)
    if common is not None:
        return common
    counts = np.empty(len(column), dtype=np.int64)
    for index, text in enumerate(column.to_pylist()):
        read = _read(text)
        if read is None:
            hint = 'is neither RFC 3339 nor "YYYY-MM-DD HH:MM:SS"; fix it or select another column'
            shape = f"{batch.location(index)}: a timestamp like {_shape(text)!r} {hint}"
            raise Refused("UnreadableTimestamp", shape, TIMESTAMP)
        counts[index] = read
    return counts


def _common(texts: pa.Array) -> Micros | None:
    """Read timestamps that are all written like RFC 3339, all with a zone or all without.

    Returns None if one is not, or is not a date: then each is read by `_read`.
    """
    if not pc.all(pc.match_substring_regex(texts, _COMMON), min_count=0).as_py():
        return None
    zoned = pc.sum(pc.match_substring_regex(texts, _ZONED)).as_py() or 0
    if zoned not in {0, len(texts)}:
        return None
    try:
        counts = texts.cast(pa.timestamp("us", "UTC" if zoned else None)).cast(pa.int64())
    except pa.ArrowInvalid:
        return None
    found: Micros = counts.to_numpy()
    return found if (found >= _FIRST_YEAR).all() else None


def _shape(text: str) -> str:
    """Show the format of a value without its content, which may be private."""
    return re.sub(r"[^\W\d_]", "x", re.sub(r"\d", "9", text[:32]))


def _read(text: str) -> int | None:
    upper = text.strip().upper()
    if _WRITTEN.fullmatch(upper) is None:
        return None
    try:
        moment = datetime.fromisoformat(upper)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return (aware - EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        return None


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _any(checks: tuple[object, ...], kind: pa.DataType) -> bool:
    return any(check(kind) for check in checks)  # type: ignore[operator]
