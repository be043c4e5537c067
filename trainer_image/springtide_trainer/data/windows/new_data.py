"""What is new in the stream: complete partitions from the cursor on, without quarantined ones.

A partition is complete a delay after its end, and when its marker is there. Partitions count only
up to the first one that is not complete: the cursor must never pass rows that are still to come.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from springtide_api.schema import duration
from springtide_trainer.data.partitions import Span, moment, within

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from springtide_api.data_spec import Holdout, Window
    from springtide_trainer.data.partitions import Micros

    Bools = npt.NDArray[np.bool_]
    Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Known:
    """A partition that the source has, or should have."""

    span: Span
    marked: bool = True
    """Its _SUCCESS file is there, or none is wanted."""
    delivered: bool = True
    """It is there; else the calendar names it, later ones are there and it is not."""


@dataclass(frozen=True)
class Rows:
    """What a window must know of the rows, one entry each."""

    moment: Micros
    reserved: Bools
    """Their entity is never trained on."""
    judges: Bools
    """They pass holdout.filter."""
    entity: Codes
    group: Codes | None = None
    begun: Bools | None = None
    """Their group has a row in a partition behind the cursor that was not read."""


@dataclass(frozen=True)
class Ask:
    """Where the stream stands and what is wanted. Moments in microseconds since 1970."""

    now: int
    window: Window
    holdout: Holdout
    delay: int = 0
    """The longer one of watermarkDelay and labelDelay."""
    cursor: int | None = None
    """Rows from here on are new."""
    judge_from: int | None = None
    """Set while a candidate waits: only a holdout is wanted, and it begins here."""
    quarantined: tuple[Span, ...] = ()
    released: tuple[Span, ...] = ()

    def complete(self, known: Known) -> bool:
        """Tell whether no row and no label of a partition is still to come."""
        return known.delivered and known.marked and known.span.end + self.delay <= self.now

    def aside(self, known: Known) -> bool:
        """Tell whether a partition is or was quarantined: it never counts as a partition.

        One that was released before it was delivered keeps back what comes after it all the same.
        """
        span, spans = known.span, self.quarantined + (self.released if known.delivered else ())
        return any(each.start <= span.start and span.end <= each.end for each in spans)

    def given_up(self, known: Known) -> bool:
        """Tell whether an undelivered partition was waited for long enough."""
        return not known.delivered and self._given_up_at(known) <= self.now

    def _given_up_at(self, known: Known) -> int:
        wait = duration(self.window.max_gap) // timedelta(microseconds=1)
        return known.span.end + self.delay + wait

    def awaits(self, known: Known) -> str:
        """Say what a partition lacks to be complete."""
        due = known.span.end + self.delay
        if due > self.now:
            return f"{known.span.name} is complete at {moment(due).isoformat()}"
        if not known.delivered:
            until = moment(self._given_up_at(known)).isoformat()
            return (
                f"{known.span.name} was due at {moment(due).isoformat()} and is not delivered; "
                f"later ones wait until {until} (data.window.maxGap), then {known.span.name} is "
                "quarantined; deliver it, as an empty folder if it has no rows"
            )
        return (
            f"{known.span.name} has no _SUCCESS file and keeps back what comes after it; write "
            "the file or quarantine the partition"
        )


@dataclass(frozen=True)
class Fresh:
    """The new rows, by partition."""

    known: list[Known]
    """All partitions, oldest first."""
    index: Codes
    """Position in `known` of each row's partition."""
    new: Bools
    """Rows from the cursor on, of complete partitions that are not quarantined."""
    released: Bools
    """Rows of partitions that were released from quarantine."""
    found: list[int]
    """Positions of the partitions that hold at least one new row, oldest first."""
    waiting: Known | None
    """The first partition that is not complete."""
    newest: str | None
    """Name of the newest complete partition, new or not."""

    @property
    def pending(self) -> int:
        """Count the complete rows that no live model has seen."""
        return int(np.count_nonzero(self.new))

    def names(self, rows: Bools) -> tuple[str, ...]:
        """Name the partitions that hold any of these rows, oldest first."""
        return tuple(self.known[int(at)].span.name for at in np.unique(self.index[rows]))


def look(rows: Rows, known: Iterable[Known], ask: Ask) -> Fresh:
    """Find what is new.

    Args:
        rows: All rows that were read; each lies in one of `known`.
        known: The partitions of the stream.
        ask: The cursor, the clock and the quarantined partitions.
    """
    ordered = sorted(known, key=lambda one: one.span)
    starts = np.array([one.span.start for one in ordered], dtype=np.int64)
    index = np.searchsorted(starts, rows.moment, side="right") - 1
    done, waiting = complete_prefix(ordered, ask)
    released = within(rows.moment, ask.released) & ~within(rows.moment, ask.quarantined)
    new = within(rows.moment, done) & ~within(rows.moment, ask.quarantined + ask.released)
    if ask.cursor is not None:
        new &= rows.moment >= ask.cursor
    found = [int(at) for at in np.unique(index[new])]
    return Fresh(
        known=ordered,
        index=index,
        new=new,
        released=released,
        found=found,
        waiting=waiting,
        newest=ordered[found[-1]].span.name if found else _newest_behind(ordered, ask),
    )


def _newest_behind(known: Iterable[Known], ask: Ask) -> str | None:
    """Name the newest complete partition behind the cursor."""
    names = [
        one.span.name
        for one in known
        if ask.cursor is not None
        and one.span.end <= ask.cursor
        and ask.complete(one)
        and not ask.aside(one)
    ]
    return names[-1] if names else None


def complete_prefix(known: Iterable[Known], ask: Ask) -> tuple[list[Span], Known | None]:
    """Return the new complete partitions before the first incomplete one, and that one.

    Args:
        known: The partitions, oldest first.
        ask: The cursor, the clock and the quarantined partitions.
    """
    done: list[Span] = []
    for one in known:
        behind = ask.cursor is not None and one.span.end <= ask.cursor
        if behind or ask.aside(one):
            continue
        if not ask.complete(one):
            return done, one
        done.append(one.span)
    return done, None
