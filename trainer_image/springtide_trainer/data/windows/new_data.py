"""Finds new data: complete partitions after the cursor that are not quarantined.

A partition is complete if its delay has passed and its marker exists. Partitions after the first
incomplete one are not used, because the cursor must never pass rows that may still arrive.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from springtide_api.schema import duration
from springtide_trainer.data.partitions import Span, moment, within

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from springtide_api.update.data import Holdout, Window
    from springtide_trainer.data.partitions import Micros

    Bools = npt.NDArray[np.bool_]
    Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PartitionState:
    """A partition that the source has or should have."""

    span: Span
    marked: bool = True
    """Its _SUCCESS file exists, or the source has no markers."""
    delivered: bool = True
    """It exists. False: later ones exist, and the calendar has it but the source does not."""


@dataclass(frozen=True)
class StreamIndex:
    """The columns that select a window, with one entry per row."""

    moment: Micros
    reserved: Bools
    """The entity is reserved: never trained on."""
    eligible: Bools
    """The row passes data.holdout.filter."""
    entity: Codes
    group: Codes | None = None
    group_seen_before: Bools | None = None
    """The group has a row in a partition before the cursor, which was not read."""
    served: Codes | None = None
    """Number of the generation that served the row; -1 for none."""
    labelled: Bools | None = None
    """The row has a label. None: each has one."""

    @property
    def unlabelled(self) -> Bools:
        """The row has no label: it may be trained on, and nothing else."""
        if self.labelled is None:
            return np.zeros(len(self.moment), dtype=bool)
        return ~self.labelled


@dataclass(frozen=True)
class WindowRequest:
    """The cursor, the clock and the settings. Times in microseconds since 1970."""

    now: int
    window: Window
    holdout: Holdout
    delay: int = 0
    """The longer of watermarkDelay and labelDelay."""
    cursor: int | None = None
    """Rows at or after it are new."""
    holdout_from: int | None = None
    """Set for a pending candidate: only a holdout is selected, starting here."""
    quarantined: tuple[Span, ...] = ()
    released: tuple[Span, ...] = ()
    excluded_generations: tuple[int, ...] = ()
    """Rows that one of these generations served are left out."""
    through: int | None = None
    """Partitions that end after it are not read."""
    held_back: int = 0
    """Without `through`: how many of the newest complete partitions are not read."""

    def complete(self, known: PartitionState) -> bool:
        """Return whether all rows and labels of a partition have arrived and may be read."""
        arrived = known.delivered and known.marked and known.span.end + self.delay <= self.now
        return arrived and not self._beyond(known)

    def _beyond(self, known: PartitionState) -> bool:
        return self.through is not None and known.span.end > self.through

    def holding_back(self, partitions: Iterable[PartitionState]) -> WindowRequest:
        """Return the request whose `through` leaves out the newest complete partitions."""
        if self.through is not None or not self.held_back:
            return self
        complete = [one.span for one in partitions if self.complete(one) and not self.excluded(one)]
        if not complete:
            return self
        return replace(self, through=sorted(complete)[-self.held_back :][0].start)

    def excluded(self, known: PartitionState) -> bool:
        """Return whether a partition is or was quarantined: then it is not counted as a partition.

        One that was released before it was delivered still blocks the partitions after it.
        """
        span, spans = known.span, self.quarantined + (self.released if known.delivered else ())
        return any(each.start <= span.start and span.end <= each.end for each in spans)

    def gap_expired(self, known: PartitionState) -> bool:
        """Return whether the wait for an undelivered partition is over."""
        return not known.delivered and self._gap_expires_at(known) <= self.now

    def _gap_expires_at(self, known: PartitionState) -> int:
        wait = duration(self.window.max_gap) // timedelta(microseconds=1)
        return known.span.end + self.delay + wait

    def describe_missing(self, known: PartitionState) -> str:
        """Return why a partition is not complete, and what to do."""
        due = known.span.end + self.delay
        if self.through is not None and known.span.end > self.through:
            bound = moment(self.through).isoformat()
            return f"{known.span.name} ends after {bound} and is not read"
        if due > self.now:
            return f"{known.span.name} is complete at {moment(due).isoformat()}"
        if not known.delivered:
            until = moment(self._gap_expires_at(known)).isoformat()
            return (
                f"{known.span.name} was due at {moment(due).isoformat()} and was not delivered; "
                f"later partitions wait until {until} (data.window.maxGap), then "
                f"{known.span.name} is quarantined; deliver it; if it has no rows, deliver an "
                "empty folder"
            )
        return (
            f"{known.span.name} has no _SUCCESS file and blocks the partitions after it; write "
            "the file or quarantine the partition"
        )


@dataclass(frozen=True)
class NewData:
    """The new rows, by partition."""

    partitions: list[PartitionState]
    """All partitions, oldest first."""
    partition_index: Codes
    """Index in `partitions` of each row's partition."""
    new: Bools
    """Rows at or after the cursor in complete partitions that are not quarantined."""
    released: Bools
    """Rows of partitions that were released from quarantine."""
    excluded: Bools
    """Rows that would be new or released, and that an excluded generation served."""
    new_partitions: list[int]
    """Indices of the partitions with at least one new row, oldest first."""
    first_incomplete: PartitionState | None
    """The first partition that is not complete."""
    newest: str | None
    """Name of the newest complete partition, new or not."""

    @property
    def pending(self) -> int:
        """Number of new rows, which the live model was not trained on."""
        return int(np.count_nonzero(self.new))

    @property
    def left_out(self) -> str:
        """How many rows are left out because of who served them, for messages."""
        count = int(np.count_nonzero(self.excluded))
        return f"; {count:,} rows that were served before a rollback are left out" if count else ""

    def names(self, rows: Bools) -> tuple[str, ...]:
        """Return the names of the partitions with any of these rows, oldest first."""
        found = np.unique(self.partition_index[rows])
        return tuple(self.partitions[int(index)].span.name for index in found)


def find_new_data(
    rows: StreamIndex, partitions: Iterable[PartitionState], request: WindowRequest
) -> NewData:
    """Find the new rows.

    Args:
        rows: All rows that were read; each is in one of `partitions`.
        partitions: The partitions of the stream.
        request: The cursor, the clock and the quarantined partitions.
    """
    ordered = sorted(partitions, key=lambda one: one.span)
    starts = np.array([one.span.start for one in ordered], dtype=np.int64)
    index = np.searchsorted(starts, rows.moment, side="right") - 1
    complete, first_incomplete = complete_prefix(ordered, request)
    released = within(rows.moment, request.released) & ~within(rows.moment, request.quarantined)
    new = within(rows.moment, complete) & ~within(
        rows.moment, request.quarantined + request.released
    )
    if request.cursor is not None:
        new &= rows.moment >= request.cursor
    served = _served_by(request.excluded_generations, rows)
    excluded = (new | released) & served
    new, released = new & ~served, released & ~served
    found = [int(at) for at in np.unique(index[new])]
    return NewData(
        partitions=ordered,
        partition_index=index,
        new=new,
        released=released,
        excluded=excluded,
        new_partitions=found,
        first_incomplete=first_incomplete,
        newest=ordered[found[-1]].span.name if found else _newest_before_cursor(ordered, request),
    )


def _served_by(generations: tuple[int, ...], rows: StreamIndex) -> Bools:
    if rows.served is None:
        return np.zeros(len(rows.moment), dtype=bool)
    return np.isin(rows.served, generations)


def _newest_before_cursor(
    partitions: Iterable[PartitionState], request: WindowRequest
) -> str | None:
    """Return the name of the newest complete partition before the cursor."""
    names = [
        one.span.name
        for one in partitions
        if request.cursor is not None
        and one.span.end <= request.cursor
        and request.complete(one)
        and not request.excluded(one)
    ]
    return names[-1] if names else None


def complete_prefix(
    partitions: Iterable[PartitionState], request: WindowRequest
) -> tuple[list[Span], PartitionState | None]:
    """Return the new complete partitions before the first incomplete one, and the latter.

    Args:
        partitions: The partitions, oldest first.
        request: The cursor, the clock and the quarantined partitions.
    """
    complete: list[Span] = []
    for one in partitions:
        consumed = request.cursor is not None and one.span.end <= request.cursor
        if consumed or request.excluded(one):
            continue
        if not request.complete(one):
            return complete, one
        complete.append(one.span)
    return complete, None
