"""Timestamps that are read together are those that are read one by one."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import event, given, settings
from hypothesis import strategies as st

from springtide_trainer.data.source.readers.rows import RowBatch
from springtide_trainer.data.source.values import timestamps
from springtide_trainer.errors import Refused

ALONE = "2026-01-01t00:00:00z"
"""Accepted, but never read together with others."""
DIGITS = {count: st.from_regex(rf"\A[0-9]{{{count}}}\Z") for count in (2, 4)}
FRACTIONS = st.from_regex(r"\A\.[0-9]{1,9}\Z")
ZONES = st.sampled_from(["", "", "Z", "+00:00", "-0530", "+23:59", "+24:00", "-12:60", "+1", "z"])


@st.composite
def written(draw: st.DrawFn) -> str:
    """A timestamp, mostly a valid one."""
    number = (lambda low, high: f"{draw(st.integers(low, high)):02}") if draw(st.booleans()) else 0
    two = number or (lambda low, high: draw(DIGITS[2]))
    year = draw(st.one_of(st.integers(1970, 2030).map(str), DIGITS[4]))
    text = f"{year}-{two(1, 12)}-{two(1, 31)}"
    if draw(st.integers(0, 4)):
        text += draw(st.sampled_from(["T", " ", "t"])) + f"{two(0, 23)}:{two(0, 59)}"
        if draw(st.integers(0, 4)):
            text += f":{two(0, 60)}" + draw(st.one_of(st.just(""), FRACTIONS))
        text += draw(ZONES)
    return text


def read(texts: list[str]) -> list[int] | str:
    batch = RowBatch(
        {"at": pa.array(texts, pa.string())}, "rows", "line", np.arange(1, len(texts) + 1)
    )
    try:
        return timestamps(batch, "at").tolist()
    except Refused as refused:
        return str(refused)


@settings(max_examples=1_000, deadline=None)
@given(texts=st.lists(st.one_of(written(), st.text("0123456789-:T Z.+é", max_size=12)), max_size=3))
def test_timestamps_read_together_are_those_read_one_by_one(texts: list[str]) -> None:
    alone = read([*texts, ALONE])
    event("read" if isinstance(alone, list) else "refused")
    assert read(texts) == (alone[:-1] if isinstance(alone, list) else alone)


@settings(max_examples=300, deadline=None)
@given(
    moments=st.lists(st.datetimes(), min_size=1, max_size=4),
    zone=st.sampled_from(["", "Z", "+01:30"]),
)
def test_dates_of_all_years_are_read_together(moments, zone) -> None:
    texts = [moment.isoformat() + zone for moment in moments]
    assert read(texts) == read([*texts, ALONE])[:-1]
