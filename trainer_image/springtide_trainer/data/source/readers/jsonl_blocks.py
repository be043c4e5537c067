"""What pyarrow and Python's parser certainly read alike in JSON lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from springtide_trainer.data.source.readers.label_lists import LISTS, write_lists
from springtide_trainer.data.source.readers.lines import MAX_LINE_BYTES, is_text

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_BRACKETS = 256
"""Opening brackets of a line that are certainly not nested too deeply for Python's parser."""
_MAX_DIGITS = 4300
"""Digits of a whole number that Python reads, `sys.int_info.default_max_str_digits`."""
_DIGITS = re.compile(rb"\d{%d}" % _MAX_DIGITS)
EXACT = 2.0**53
"""Whole numbers below it are exact as float64."""
_SHORTEST, _LONGEST = 1e-3, 1e15
"""Between these Python and pyarrow write a fraction alike: without an exponent."""
_LF, _CR, _LIST, _OPEN, _CLOSE = b"\n\r[{}"


def type_of(kinds: set[type]) -> pa.DataType:
    """Return the type by which pyarrow reads values of these types alike."""
    kinds = kinds - {type(None)}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {list}:
        return LISTS
    if kinds == {int}:
        return pa.int64()
    return pa.float64() if kinds and kinds <= {int, float} else pa.string()


def certain_lines(block: bytes, last: bool) -> NDArray[np.int64] | None:
    """Return where each line ends; None if the parsers might read the lines differently.

    Each line must begin with { and end with }. Then a line break is never inside an object: there
    } is never followed by {. So lines and objects that are equally many are the same.

    Args:
        block: Whole lines, and the start of another unless it is the last block.
        last: It is the last block, so its last line needs no line break.
    """
    data = np.frombuffer(block, np.uint8)
    breaks = np.flatnonzero(data == _LF)
    if last and not block.endswith(b"\n"):
        breaks = np.append(breaks, len(block))
    if not len(breaks):
        return None
    starts = np.append(0, breaks[:-1] + 1)
    ends = breaks - (data[breaks - 1] == _CR)
    if (
        (ends - starts).min() < 2
        or (breaks - starts).max() >= MAX_LINE_BYTES
        or (data[starts] != _OPEN).any()
        or (data[ends - 1] != _CLOSE).any()
        or not is_text(block[: breaks[-1]])
        or not _short_numbers(block[: breaks[-1]], int((breaks - starts).max()))
        or not _shallow(data, breaks)
    ):
        return None
    return breaks


def _short_numbers(block: bytes, longest: int) -> bool:
    """Return whether no number is too long for Python; `longest` is the longest line."""
    return longest < _MAX_DIGITS or not _DIGITS.search(block)


def _shallow(data: NDArray[np.uint8], breaks: NDArray[np.int64]) -> bool:
    """Return whether no line has more than _MAX_BRACKETS opening brackets."""
    opening = (data == _LIST) | (data == _OPEN)
    if np.count_nonzero(opening) < len(breaks) + _MAX_BRACKETS:
        return True
    opened = np.flatnonzero(opening)
    counts = np.diff(np.searchsorted(opened, breaks), prepend=0)
    return bool(counts.max() <= _MAX_BRACKETS)


def as_texts(column: pa.Array) -> pa.Array | None:
    """Convert values to the texts of Python's parser; None if they might be others.

    Raises:
        pa.ArrowInvalid: a text is not UTF-8, because of an escape.
    """
    column.validate(full=True)
    if pa.types.is_list(column.type):
        return None if column.flatten().null_count else write_lists(column)
    if not pa.types.is_floating(column.type):
        return column.cast(pa.string())
    size = pc.abs(column)
    whole = pc.equal(pc.floor(column), column)
    alike = pc.or_(whole, pc.and_(pc.greater_equal(size, _SHORTEST), pc.less(size, _LONGEST)))
    if not pc.all(pc.and_(alike, pc.less(size, EXACT)), min_count=0).as_py():
        return None
    counts = pc.if_else(whole, column, 0.0).cast(pa.int64()).cast(pa.string())
    return pc.if_else(whole, counts, column.cast(pa.string()))
