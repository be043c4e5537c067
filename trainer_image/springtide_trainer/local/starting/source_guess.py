"""Guesses format, partitions and columns of data from the names and first rows of its files."""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
import zlib
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

ROWS = 20_000
"""Rows of the first file that are read."""
FORMATS = {".csv": "CSV", ".jsonl": "JSONL", ".ndjson": "JSONL", ".json": "JSONL"}
FORMATS |= {".parquet": "Parquet", ".pq": "Parquet"}
PERIODS = (
    (r"\d{4}-\d{2}-\d{2}T\d{2}", "%Y-%m-%dT%H", "Hour"),
    (r"\d{4}-\d{2}-\d{2}", "%Y-%m-%d", "Day"),
    (r"\d{8}", "%Y%m%d", "Day"),
    (r"\d{4}-W\d{2}", "%G-W%V", "Week"),
    (r"\d{4}-\d{2}", "%Y-%m", "Month"),
)
TIMES = r"^(ts|t|time|timestamp|datetime|date|at|.*_(at|time|ts|date)|event_time)$"
LABELS = r"^(label|y|target|class|clicked|click|bought|purchased|intent|sentiment|outcome|rating)$"
ENTITIES = r"^((customer|user|shopper|visitor|session|account|client|query)(_?id)?|entity)$"
GROUPS = r"^((impression|list|request|group|search)(_?id)?)$"
TEXTS = r"^(text|query|sentence|review|title|item|product|description|utterance|message|comment)"


@dataclass(frozen=True)
class Guess:
    """What a manifest says about its source.

    Attributes:
        format: Format of the files.
        path: Path of a partition as a strftime pattern; None without one.
        period: Length of a partition.
        marked: Its folders have _SUCCESS files.
        columns: Guessed columns by the name of their field.
        names: All columns of the first file.
        labels: Values of the label's column, sorted.
    """

    format: str
    path: str | None
    period: str
    marked: bool
    columns: dict[str, str]
    names: list[str]
    labels: list[str]


def guess(source: Path) -> Guess:
    """Look at a file or a folder.

    Raises:
        Refused: there is no file of a known format, or it has no rows.
    """
    files = [source] if source.is_file() else sorted(filter(_is_data, source.rglob("*")))
    known = [(each, form) for each in files if (form := format_of(each))]
    if not known:
        message = f"{source} has no file that ends in {', '.join(FORMATS)} or these with .gz"
        raise Refused("DataNotFound", message, "--data")
    file, form = known[0]
    rows = _rows(file, form)
    if not rows:
        raise Refused("EmptyFile", f"{file} has no rows", "--data")
    path, period = (None, "Month") if source.is_file() else _partition(source, known)
    columns = _columns(rows)
    label = columns.get("label")
    values = {_written(row.get(label)) for row in rows} - {None, ""} if label else set()
    return Guess(
        format=form,
        path=path,
        period=period,
        marked=bool(path) and any(source.rglob("_SUCCESS")),
        columns=columns,
        names=list(rows[0]),
        labels=sorted(str(value) for value in values),
    )


def _is_data(path: Path) -> bool:
    return path.is_file() and not path.name.startswith(("_", "."))


def format_of(path: Path) -> str | None:
    """Return the format that the name of a file says; None if it says none."""
    suffixes = [each for each in path.suffixes if each != ".gz"]
    return FORMATS.get(suffixes[-1]) if suffixes else None


def _rows(file: Path, form: str) -> list[dict[str, Any]]:
    """Read the first rows.

    Raises:
        Refused: the file cannot be read.
    """
    try:
        if form == "Parquet":
            batch = next(pq.ParquetFile(file).iter_batches(batch_size=ROWS), None)
            return [] if batch is None else list(batch.to_pylist())
        opened = gzip.open if file.suffix == ".gz" else open
        with opened(file, "rt", encoding="utf-8-sig", newline="") as lines:
            read: Iterable[dict[str, Any]] = (
                map(_whole, csv.DictReader(lines, strict=True))
                if form == "CSV"
                else map(_object, filter(str.strip, lines))
            )
            return list(islice(read, ROWS))
    except (OSError, EOFError, ValueError, zlib.error, csv.Error, RecursionError) as wrong:
        raise Refused(
            "CorruptFile", f"{file} cannot be read as {form}: {wrong}", "--data"
        ) from wrong


def _whole(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of CSV that has a field for each column of the header."""
    if None in row or None in row.values():
        raise ValueError(f"a row has more or fewer fields than the header: {str(row)[:40]}")
    return row


def _written(value: Any) -> str | None:
    """Return a value as the trainer reads it; None for null and NaN."""
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            if math.isnan(value):
                return None
            return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
        case bytes():
            return value.decode(errors="replace")
    return None if value is None else str(value)


def _object(line: str) -> dict[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError(f"a row is not an object: {line[:40]!r}")
    return row


def _partition(source: Path, files: Iterable[tuple[Path, str]]) -> tuple[str | None, str]:
    """Return the pattern of a partition's path and its period; no pattern if files differ."""
    names = {file.relative_to(source).parts[0].replace("%", "%%") for file, _ in files}
    for digits, pattern, period in PERIODS:
        expression = re.compile(rf"(?<!\d){digits}(?!\d)")
        if all(map(expression.search, names)):
            patterns = {expression.sub(pattern, name, count=1) for name in names}
            return patterns.pop() if len(patterns) == 1 else None, period
    return None, "Month"


def _columns(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Choose columns by their names, else by their values."""
    left = {name: [row[name] for row in rows if row.get(name) is not None] for name in rows[0]}
    chosen: dict[str, str] = {}

    def choose(field: str, names: str, fits: Callable[[list[Any]], bool], *, only: bool) -> None:
        named = [name for name in left if re.match(names, name.lower()) and left[name]]
        found = named or ([] if only else [name for name in left if fits(left[name])])
        if found:
            chosen[field] = found[0]
            del left[found[0]]

    choose("timestamp", TIMES, _are_times, only=False)
    choose("label", LABELS, _are_labels, only=True)
    choose("entity", ENTITIES, _are_texts, only=True)
    choose("group", GROUPS, _are_texts, only=True)
    choose("text", TEXTS, _are_texts, only=False)
    choose("textPair", TEXTS, _are_texts, only=True)
    if "label" not in chosen:
        choose("label", "(?!)", _are_labels, only=False)
    return chosen


def _are_times(values: list[Any]) -> bool:
    try:
        return bool(values) and all(
            isinstance(value, datetime) or datetime.fromisoformat(str(value)).year > 1970
            for value in values[:20]
        )
    except ValueError:
        return False


def _are_labels(values: list[Any]) -> bool:
    return 2 <= len({str(value) for value in values}) <= 64


def _are_texts(values: list[Any]) -> bool:
    return bool(values) and sum(" " in str(value) for value in values) * 2 > len(values)
