"""Which generation answered, over time: what the load generator recorded, and its plot as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PERIOD = 2
"""Seconds of one entry of the load generator's timeline."""
ROWS = 10
FAILED = -1
"""In place of a generation: requests that failed."""
COLORS = ("grey46", "blue", "dark_orange3", "green4", "magenta", "turquoise4")
"""By the number of the generation; the digit says it without a color, too."""
TICK_COLUMNS = 7
"""Columns that a time needs below the axis."""


@dataclass(frozen=True)
class Column:
    """The requests of some seconds."""

    at: float
    """When it begins, in seconds since 1970."""
    counts: Mapping[int, int]
    """Answers by generation; those that failed by `FAILED`."""

    @property
    def total(self) -> int:
        """Return the number of requests."""
        return sum(self.counts.values())


def columns(
    timeline: Sequence[Mapping[str, Any]], *, since: float, until: float, seconds: float
) -> list[Column]:
    """Add up the entries of a timeline. Answers that name no generation count as failed.

    Args:
        timeline: of the load generator's totals.
        since: when the first column begins, in seconds since 1970.
        until: entries from then on are left out.
        seconds: time of a column, at least `PERIOD`.
    """
    sums: list[dict[int, int]] = [{} for _ in range(max(1, round((until - since) / seconds)))]
    for entry in timeline:
        place = int((entry["at"] - since) // seconds)
        if not 0 <= place < len(sums):
            continue
        for name, count in entry["answers"].items():
            number = int(name) if name.isdecimal() else FAILED
            sums[place][number] = sums[place].get(number, 0) + count
        if failed := entry["failed"]:
            sums[place][FAILED] = sums[place].get(FAILED, 0) + failed
    return [Column(since + place * seconds, counts) for place, counts in enumerate(sums)]


def cells(column: Column, rows: int = ROWS) -> list[int]:
    """Return what fills each row from the bottom: older generations below, failures on top.

    What is not 0 has one row at least; the largest remainders get the rows that are left.
    """
    if not column.total:
        return []
    order = sorted(column.counts, key=lambda number: (number == FAILED, number))
    exact = {number: column.counts[number] * rows / column.total for number in order}
    filled = {number: max(1, int(exact[number])) for number in order}
    while sum(filled.values()) < rows:
        filled[max(order, key=lambda number: exact[number] - filled[number])] += 1
    while sum(filled.values()) > rows:
        filled[max(order, key=lambda number: filled[number])] -= 1
    return [number for number in order for _ in range(filled[number])]


def plot(found: Sequence[Column], marks: Mapping[str, float]) -> Text:
    """Return the shares as text: a column for each time, a digit for each generation.

    Args:
        found: the columns, at least two, of equal time.
        marks: when something began, in seconds since 1970, by its description.
    """
    seconds = found[1].at - found[0].at
    stacks = [cells(column) for column in found]
    row_is = f"a row {100 // ROWS} % of the requests"
    text = Text(f"Generation that answered: a column is {seconds:g} s, {row_is}\n")
    for row in reversed(range(ROWS)):
        text.append(f"{(row + 1) * 100 // ROWS:4} % ")
        for stack in stacks:
            number = stack[row] if row < len(stack) else None
            text.append(*_cell(number))
        text.append("\n")
    text.append(f"{'':7}{_ticks(len(found), seconds)}\n")
    letters = {chr(ord("A") + place): name for place, name in enumerate(marks)}
    begin = found[0].at
    line = [" "] * len(found)
    for letter, name in letters.items():
        place = int((marks[name] - begin) // seconds)
        if 0 <= place < len(line):
            line[place] = letter
    text.append(f"{'':7}{''.join(line).rstrip()}")
    for letter, name in letters.items():
        text.append(f"\n{'':7}{letter} {name}")
    return text


def _cell(number: int | None) -> tuple[str, str]:
    """Return the character and the style of a cell."""
    if number is None:
        return " ", ""
    if number == FAILED:
        return "!", "bold white on red"
    return str(number % 10), f"white on {COLORS[number % len(COLORS)]}"


def _ticks(count: int, seconds: float) -> str:
    """Return the axis of time, in minutes and seconds from the first column on."""
    apart = 30 if seconds * TICK_COLUMNS <= 30 else 60
    axis = ""
    for after in range(0, int((count - TICK_COLUMNS) * seconds) + 1, apart):
        axis = axis.ljust(round(after / seconds)) + f"|{after // 60}:{after % 60:02}"
    return axis
