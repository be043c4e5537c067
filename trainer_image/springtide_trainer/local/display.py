"""Shows a local run: a progress bar for each stage on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from springtide_trainer import progress

try:
    import rich.box
    import rich.console
    import rich.progress
    import rich.table
except ModuleNotFoundError:  # only colours and bars need it
    RICH_IS_INSTALLED = False
else:
    RICH_IS_INSTALLED = True

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

INTERVAL = 5.0
"""Seconds between two plain lines of progress."""
UNITS = {"train": "step", "evaluate": "row", "pick": "row"}
COLOURS = {
    "Pass": "green",
    "Accepted": "bold green",
    "Reject": "red",
    "Rejected": "bold red",
    "Inconclusive": "yellow",
}


class Display(Protocol):
    """Where a run is shown."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Show the progress of a stage while the block runs."""

    def done(self, stage: str, text: str) -> None:
        """Show the result of a stage."""

    def line(self, text: str) -> None:
        """Show a line."""

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table; the last column is a verdict, the one before it may be left out."""


class RemainingTime:
    """Estimates from the steps after the first, because the first includes the start."""

    def __init__(self) -> None:
        self._first: tuple[int, float] | None = None

    def after(self, at: progress.Step, now: float) -> str:
        """Return the remaining time after a step, such as "2:05 left"; empty if unknown or 0."""
        if self._first is None:
            self._first = at.step, now
        step, began = self._first
        if at.step in {step, at.total}:
            return ""
        return f"{_clock_time((now - began) / (at.step - step) * (at.total - at.step))} left"


class PlainDisplay:
    """Lines of text, for a file, a pipe or a CI log.

    Args:
        out: Where the lines go.
        clock: Returns monotonic seconds.
    """

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Write a line for the first step, and one every few seconds."""
        self.line(f"{name}: started")
        written, remaining = float("-inf"), RemainingTime()

        def show(at: progress.Step) -> None:
            nonlocal written
            now = self._clock()
            left = remaining.after(at, now)
            if now - written < INTERVAL and at.step < at.total:
                return
            written = now
            loss = "" if math.isnan(at.loss) else f", loss {at.loss:.4f}"
            percent = 100 * at.step // at.total
            count = f"{UNITS.get(name, 'step')} {at.step:,} of {at.total:,}"
            self.line(f"{name}: {count}, {percent} %{loss}{left and f', {left}'}")

        with progress.shown_by(show):
            yield

    def done(self, stage: str, text: str) -> None:
        """Write the result of a stage."""
        self.line(f"{stage}: {text}")

    def line(self, text: str) -> None:
        """Write a line at once, so that a log can be followed."""
        print(text, file=self._out, flush=True)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Write aligned columns."""
        widths = _widths(header, rows)
        for row in (header, *rows):
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.line("  ".join(cells).rstrip())


class TerminalDisplay:
    """Bars and colours, for a terminal.

    Args:
        console: The terminal.
    """

    def __init__(self, console: rich.console.Console) -> None:
        self._console = console

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show a bar; a spinner where the stage counts nothing."""
        with rich.progress.Progress(
            rich.progress.SpinnerColumn(finished_text=" "),
            rich.progress.TextColumn("{task.description:<8}"),
            rich.progress.BarColumn(bar_width=24),
            rich.progress.TextColumn("{task.fields[counted]}"),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("{task.fields[left]}", style="cyan"),
            console=self._console,
            transient=True,
        ) as bars:
            task = bars.add_task(name, total=None, counted="", left="")
            remaining = RemainingTime()

            def show(at: progress.Step) -> None:
                loss = "" if math.isnan(at.loss) else f"  loss {at.loss:.4f}"
                counted = f"{UNITS.get(name, 'step')} {at.step:,}/{at.total:,}{loss}"
                left = remaining.after(at, time.monotonic())
                bars.update(task, total=at.total, completed=at.step, counted=counted, left=left)

            with progress.shown_by(show):
                yield

    def done(self, stage: str, text: str) -> None:
        """Print the result of a stage."""
        self._console.print(f"[green]✓[/green] {stage:<8} {_escaped(text)}")

    def line(self, text: str) -> None:
        """Print a line; the first word is coloured if it is a verdict."""
        first, _, rest = text.partition(" ")
        style = COLOURS.get(first)
        shown = f"[{style}]{first}[/{style}] {_escaped(rest)}" if style else _escaped(text)
        self._console.print(shown, soft_wrap=True)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table with coloured verdicts."""
        table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        fits = self._console.width >= sum(_widths(header, rows)) + 2 * len(header)
        shown = [index for index in range(len(header)) if fits or index != len(header) - 2]
        for index in shown:
            table.add_column(header[index], no_wrap=index > 1, overflow="fold")
        for row in rows:
            cells = [_escaped(cell) for cell in row]
            style = COLOURS.get(row[-1].split()[0], "default")
            cells[-1] = f"[{style}]{cells[-1]}[/{style}]"
            table.add_row(*(cells[index] for index in shown))
        self._console.print(table)


def display() -> Display:
    """Return bars for a terminal, else plain lines."""
    if RICH_IS_INSTALLED and sys.stdout.isatty():
        return TerminalDisplay(rich.console.Console(highlight=False))
    return PlainDisplay(sys.stdout)


def _widths(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(header, *rows, strict=True)]


def _clock_time(seconds: float) -> str:
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")
