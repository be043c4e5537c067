"""Which partitions a run may read: those up to a time, or all but the newest."""

from __future__ import annotations

from dataclasses import replace

import pytest
from trainer.data.small_stream import span

from springtide_api.update.data import Holdout, Window
from springtide_trainer.data.windows.new_data import PartitionState, WindowRequest, complete_prefix

PARTITIONS = [PartitionState(span(number)) for number in range(5)]
REQUEST = WindowRequest(now=span(4).end, window=Window(), holdout=Holdout())


def names(request: WindowRequest) -> list[str]:
    return [each.name for each in complete_prefix(PARTITIONS, request)[0]]


def test_partitions_that_end_after_the_bound_are_not_read():
    assert names(replace(REQUEST, through=span(2).end)) == ["p0", "p1", "p2"]
    assert names(replace(REQUEST, through=span(2).end - 1)) == ["p0", "p1"]
    assert names(REQUEST) == ["p0", "p1", "p2", "p3", "p4"]


def test_the_reason_names_the_bound():
    request = replace(REQUEST, through=span(2).end)

    assert request.describe_missing(PARTITIONS[3]) == (
        "p3 ends after 1970-01-01T00:05:00+00:00 and is not read"
    )


def test_the_newest_complete_partitions_are_held_back():
    request = replace(REQUEST, held_back=2).holding_back(PARTITIONS)

    assert names(request) == ["p0", "p1", "p2"]
    assert request.holding_back(PARTITIONS) is request


def test_partitions_that_are_not_complete_or_quarantined_are_not_counted_as_held_back():
    incomplete = replace(REQUEST, now=span(4).end - 1, held_back=1)
    quarantined = replace(REQUEST, quarantined=(span(4),), held_back=1)

    assert names(incomplete.holding_back(PARTITIONS)) == ["p0", "p1", "p2"]
    assert names(quarantined.holding_back(PARTITIONS)) == ["p0", "p1", "p2"]


def test_a_bound_that_is_given_is_not_moved():
    request = replace(REQUEST, through=span(3).end, held_back=1)

    assert request.holding_back(PARTITIONS) is request
    assert names(replace(REQUEST, held_back=1).holding_back([])) == [f"p{n}" for n in range(5)]


MONTHS = {"partition": {"period": "Month", "path": "%Y-%m.csv"}}
TAIL = {"strategy": {"type": "Tail", "tail": {"fraction": "0.5"}}}


@pytest.fixture(params=["a file a month", "one file"])
def ten_months(request, tmp_path, write_csv, clicks):
    """Ten months with ten rows each, and how they are divided."""
    if request.param == "one file":
        return write_csv(tmp_path / "all.csv", clicks(*range(1, 11))), {
            "partition": {"period": "Month"}
        }
    for month in range(1, 11):
        write_csv(tmp_path / "months" / f"2026-{month:02}.csv", clicks(month))
    return tmp_path / "months", MONTHS


@pytest.mark.parametrize(
    ("settings", "cluster", "local"),
    [
        # Half of 100 rows begins with the sixth month.
        ({"holdout": TAIL}, "2026-06", "2026-05"),
        ({"window": {"maxRows": 45}}, "2026-05", "2026-04"),
        ({"window": {"maxRows": 45}, "holdout": TAIL}, "2026-05", "2026-04"),
    ],
    ids=["Tail", "maxRows", "both"],
)
def test_no_row_of_the_next_holdout_is_read_where_rows_decide_where_it_begins(
    ten_months, run_probe, settings, cluster, local
):
    source, divided = ten_months
    asked = {**divided, **settings, "now": "2026-12-01T00:00:00Z"}

    next_run = run_probe(source, **asked).window
    held = {"probe": {"heldBack": 1}}
    window = run_probe(source, **asked, **held).window

    assert next_run.holdout_partitions[0] == cluster
    assert window.holdout_partitions[-1] == local
    assert window.holdout_to <= next_run.holdout_from
    # What was accepted without a cluster moves no cursor there.
    after = {"probe": {"heldBack": 1, "cursor": "2026-03-01T00:00:00Z"}}
    later = run_probe(source, **asked, **after).window
    assert later is None or later.holdout_to <= next_run.holdout_from
    assert run_probe(source, **asked, probe={"through": "2026-12-01T00:00:00Z"}).window == next_run
