"""Calendar periods in UTC."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide_trainer.data.partitions import (
    PeriodName,
    micros,
    missing_partitions,
    moment,
    named,
    span_at,
    spans_of,
)
from springtide_trainer.errors import Refused

PERIODS = ["Hour", "Day", "Week", "Month"]
timestamps = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("period", "name", "start", "end"),
    [
        ("Hour", "2026-03-01T05", "2026-03-01T05:00:00Z", "2026-03-01T06:00:00Z"),
        ("Day", "2026-03-01", "2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z"),
        ("Week", "2026-W09", "2026-02-23T00:00:00Z", "2026-03-02T00:00:00Z"),
        ("Month", "2026-03", "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z"),
    ],
)
def test_the_name_of_a_partition_is_the_start_of_its_period(
    period: str, name: str, start: str, end: str
) -> None:
    span = span_at(datetime(2026, 3, 1, 5, 7, 9, tzinfo=UTC), period)
    assert span == named(name)
    assert span.name == name
    assert moment(span.start) == datetime.fromisoformat(start)
    assert moment(span.end) == datetime.fromisoformat(end)


@given(timestamps, st.sampled_from(PERIODS))
def test_the_period_of_a_time_contains_it_and_is_parsed_from_its_name(
    when: datetime, period: str
) -> None:
    span = span_at(when, period)
    assert span.start <= micros(when) < span.end
    assert named(span.name) == span
    assert spans_of(np.array([micros(when)]), period) == [span]
    assert span_at(moment(span.end), period).start == span.end


@pytest.mark.parametrize(
    "name", ["2026", "2026-13", "2026-W54", "2026-02-30", "../x", "", "\u0662026-03"]
)
def test_an_invalid_partition_name_is_refused(name: str) -> None:
    with pytest.raises(Refused, match="UnknownPartition"):
        named(name)


@pytest.mark.parametrize(
    ("period", "there", "since", "missing"),
    [
        ("Month", ["2026-01", "2026-04"], None, ["2026-02", "2026-03"]),
        ("Month", ["2026-03"], "2026-01-01T00:00:00Z", ["2026-01", "2026-02"]),
        ("Month", ["2026-01", "2026-02"], "2026-05-01T00:00:00Z", []),
        ("Day", ["2026-02-27", "2026-03-02"], None, ["2026-02-28", "2026-03-01"]),
        ("Week", ["2026-W53", "2027-W02"], None, ["2027-W01"]),
        ("Hour", ["2026-01-01T22", "2026-01-02T01"], None, ["2026-01-01T23", "2026-01-02T00"]),
        ("Day", ["2026-03-02", "2026-03-03"], "2026-03-01T12:00:00Z", ["2026-03-01"]),
        ("Day", [], "2026-03-01T12:00:00Z", []),
    ],
)
def test_missing_partitions_are_found_by_the_calendar(
    period: PeriodName, there: list[str], since: str | None, missing: list[str]
) -> None:
    begin = micros(datetime.fromisoformat(since)) if since else None
    found = missing_partitions([named(name) for name in there], begin, period)
    assert [span.name for span in found] == missing
