"""Reads a user's own data, splits it by month and samples it for two cores.

Of each month the customers with the smallest hashes are taken with all their rows, so that the same
customers are in every month.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING

import shop
from demo.kubectl import DemoError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = 3000


def months(place: Path, rows: int = ROWS) -> dict[str, list[shop.Row]]:
    """Read a CSV file, plain or gzipped, or a folder of them; return rows by month, in order.

    Raises:
        DemoError: it cannot be read, a column is missing, or there are less than two months.
    """
    found: dict[str, list[shop.Row]] = defaultdict(list)
    for file in _files(place):
        for row in _rows(file):
            found[row[0][:7]].append(row)
    if len(found) < 2:
        raise DemoError(
            f"{place} has {len(found)} months; one trains and the next judges: bring two"
        )
    labels = {row[4] for rows_of_month in found.values() for row in rows_of_month}
    if labels != {"0", "1"}:
        raise DemoError(
            f"{place}: column label has {sorted(labels)[:5]}; write 1 for bought, else 0"
        )
    return {month: chosen(found[month], rows) for month in sorted(found)}


def chosen(rows: list[shop.Row], limit: int) -> list[shop.Row]:
    """Take whole customers in the order of their hash, as long as there are no more rows."""
    by_customer: dict[str, list[shop.Row]] = defaultdict(list)
    for row in rows:
        by_customer[row[1]].append(row)
    taken: list[shop.Row] = []
    for customer in sorted(by_customer, key=lambda name: hashlib.sha256(name.encode()).digest()):
        if len(taken) + len(by_customer[customer]) <= limit:
            taken += by_customer[customer]
    return sorted(taken, key=lambda row: row[0])


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        files = sorted(place.glob("*.csv")) + sorted(place.glob("*.csv.gz"))
    else:
        files = [place] if place.is_file() else []
    if not files:
        raise DemoError(
            f"{place}: no file there; DATA is a CSV file or a folder of .csv or .csv.gz"
        )
    return files


def _rows(file: Path) -> Iterator[shop.Row]:
    opened = gzip.open if file.suffix == ".gz" else open
    try:
        with opened(file, "rt", newline="", encoding="utf-8") as text:
            table = csv.DictReader(text)
            if missing := set(shop.COLUMNS) - set(table.fieldnames or ()):
                raise DemoError(f"{file} lacks {sorted(missing)}; columns are {list(shop.COLUMNS)}")
            for row in table:
                yield tuple(row[column] for column in shop.COLUMNS)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DemoError(f"{file} cannot be read: {error}") from error
