"""Which partitions a run may read: those up to a time, or all but the newest."""

from __future__ import annotations

from dataclasses import replace

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
