"""Partitions: calendar periods in UTC, with names such as 2026-03.

Timestamps are integer microseconds since 1970 in UTC; a partition is a half-open interval.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

import numpy as np

from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy.typing as npt

    Micros = npt.NDArray[np.int64]

PeriodName = Literal["Hour", "Day", "Week", "Month"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_YEAR = 9998
"""The end of a period and what waits for it must still be dates, which end with the year 9999."""
SECOND = 1_000_000
_HOUR = 3600 * SECOND
_DAY = 24 * _HOUR
_MONDAY = 4 * _DAY
"""1970-01-05 was the first Monday."""
_NAMES: dict[str, PeriodName] = {
    r"\d{4}-\d\d-\d\dT\d\d": "Hour",
    r"\d{4}-\d\d-\d\d": "Day",
    r"\d{4}-W\d\d": "Week",
    r"\d{4}-\d\d": "Month",
}


@dataclass(frozen=True, order=True)
class Span:
    """One calendar period: [start, end)."""

    start: int
    end: int
    name: str

    def covers(self, timestamps: Micros) -> npt.NDArray[np.bool_]:
        """Return which timestamps are in the period."""
        return (timestamps >= self.start) & (timestamps < self.end)


def micros(moment: datetime) -> int:
    """Convert to microseconds since 1970."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def moment(count: int) -> datetime:
    """Convert from microseconds since 1970."""
    return EPOCH + timedelta(microseconds=count)


def span_at(start: datetime, period: PeriodName) -> Span:
    """Return the period that contains a time."""
    day = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    date = f"{day.year:04}-{day.month:02}-{day.day:02}"
    match period:
        case "Hour":
            return _span(day, day + timedelta(hours=1), f"{date}T{day.hour:02}")
        case "Day":
            day = day.replace(hour=0)
            return _span(day, day + timedelta(days=1), date)
        case "Week":
            day = day.replace(hour=0) - timedelta(days=day.weekday())
            year, week, _ = day.isocalendar()
            return _span(day, day + timedelta(days=7), f"{year:04}-W{week:02}")
        case "Month":
            day = day.replace(day=1, hour=0)
            after = (day + timedelta(days=31)).replace(day=1)
            return _span(day, after, f"{day.year:04}-{day.month:02}")


def _span(start: datetime, end: datetime, name: str) -> Span:
    return Span(start=micros(start), end=micros(end), name=name)


def spans_of(timestamps: Micros, period: PeriodName) -> list[Span]:
    """Return the periods with at least one of these timestamps, oldest first."""
    return [span_at(moment(int(start)), period) for start in np.unique(_floor(timestamps, period))]


def missing_partitions(
    delivered: Sequence[Span], since: int | None, period: PeriodName
) -> Iterator[Span]:
    """Yield the periods before the last delivered one that were not delivered, oldest first.

    Args:
        delivered: The delivered periods, oldest first.
        since: Where the calendar starts. None: at the first delivered period.
        period: Length of a period.
    """
    if not delivered:
        return
    starts = {span.start for span in delivered}
    span = delivered[0] if since is None else span_at(moment(since), period)
    while span.end <= delivered[-1].start:
        if span.start not in starts:
            yield span
        span = span_at(moment(span.end), period)


def _floor(timestamps: Micros, period: PeriodName) -> Micros:
    match period:
        case "Hour":
            return timestamps // _HOUR * _HOUR
        case "Day":
            return timestamps // _DAY * _DAY
        case "Week":
            return (timestamps - _MONDAY) // (7 * _DAY) * (7 * _DAY) + _MONDAY
        case "Month":
            months = timestamps.astype("datetime64[us]").astype("datetime64[M]")
            return months.astype("datetime64[us]").astype(np.int64)


def named(name: str) -> Span:
    """Return the period of a name such as 2026-03, whatever the source's current period is.

    Raises:
        Refused: the name is not one of a partition.
    """
    for pattern, period in _NAMES.items():
        if re.fullmatch(pattern, name, re.ASCII):
            try:
                span = span_at(_start(name, period), period)
            except (ValueError, OverflowError):
                break
            return span
    raise Refused(
        "UnknownPartition",
        f"{name!r} is not a partition name; write it like 2026-03-01T05, 2026-03-01, 2026-W09 or "
        "2026-03",
    )


def _start(name: str, period: PeriodName) -> datetime:
    form = {"Hour": "%Y-%m-%dT%H", "Day": "%Y-%m-%d", "Week": "%G-W%V-%u", "Month": "%Y-%m"}[period]
    return datetime.strptime(name + ("-1" if period == "Week" else ""), form).replace(tzinfo=UTC)


def within(timestamps: Micros, spans: Iterable[Span]) -> npt.NDArray[np.bool_]:
    """Return which timestamps are in any of the periods."""
    inside = np.zeros(len(timestamps), dtype=bool)
    for span in spans:
        inside |= span.covers(timestamps)
    return inside
