"""minRows, maxRows, minima of the holdout and reserved rows; partitions last 100 s."""

from __future__ import annotations

import numpy as np
from trainer.data.small_stream import Case, latest, tail

from springtide_trainer.data.partitions import SECOND

# minRows, maxWait, minima of the holdout.


def test_fewer_than_min_rows_start_no_run() -> None:
    made = Case([10, 20, 110], window={"minRows": 3}).nothing()
    assert made.reason == "NotEnoughData"
    assert made.message == "2 of 3 training rows (data.window.minRows)"


def test_max_wait_starts_with_fewer_rows_once_the_oldest_partition_is_old_enough() -> None:
    window = {"minRows": 3, "maxWait": "500s"}
    assert Case([10, 20, 110], now=599, window=window).nothing().reason == "NotEnoughData"
    assert Case([10, 20, 110], now=600, window=window).parts() == ([10, 20], [110])


def test_a_holdout_needs_its_minimum_rows_and_entities() -> None:
    rows = Case([10, 110, 120], holdout=latest(1, minRows=3)).nothing()
    assert rows.message == "2 of 3 holdout rows (data.holdout.minRows)"
    same = Case([10, 110, 120], entities=[1, 2, 2], holdout=latest(1, minEntities=2)).nothing()
    assert same.message == "1 of 2 holdout entities (data.holdout.minEntities)"


def test_rows_excluded_for_their_group_are_counted_in_the_message_of_a_short_holdout() -> None:
    made = Case([10, 110], groups=[1, 1]).nothing()
    assert made.message == (
        "0 of 1 holdout rows (data.holdout.minRows); "
        "1 excluded because their group began before the holdout"
    )


# Rule 4: maxRows.


def test_max_rows_takes_the_oldest_whole_partitions_and_the_rest_is_pending() -> None:
    seconds = [10, 20, 110, 120, 210, 220, 310, 410]
    case = Case(seconds, window={"maxRows": 5})
    assert case.parts() == ([10, 20, 110, 120], [210, 220])
    assert case.ready().pending == 8


def test_max_rows_takes_at_least_one_partition() -> None:
    assert Case([10, 20, 30, 110, 210], window={"maxRows": 2}).parts() == ([10, 20, 30], [110])


def test_with_max_rows_the_holdout_is_the_next_eligible_partitions() -> None:
    case = Case(
        [10, 110, 210, 310, 410, 510], window={"maxRows": 1}, holdout=latest(2), quarantined=[1, 3]
    )
    assert case.parts() == ([10], [210, 410])
    assert case.ready().bounds.holdout_to == 500 * SECOND


def test_min_rows_above_max_rows_does_not_block_forever() -> None:
    seconds = [10, 20, 110, 120, 130, 210]
    assert Case(seconds, window={"minRows": 3, "maxRows": 4}).parts()[0] == [10, 20]


def test_with_tail_max_rows_limits_rows_and_the_holdout_keeps_its_share() -> None:
    case = Case(list(range(1, 21)), window={"maxRows": 8}, holdout=tail("0.2"))
    assert case.parts() == ([1, 2, 3, 4, 5, 6, 7, 8], [9, 10])
    assert case.ready().bounds.holdout_to == 11 * SECOND


def test_with_tail_max_rows_takes_at_least_the_rows_of_one_second() -> None:
    case = Case([1, 1, 1, 2, 3, 4, 5, 6], window={"maxRows": 2}, holdout=tail("0.2"))
    assert case.parts() == ([1, 1, 1], [2])


# Rule 5: the reserve.


def test_reserved_entities_are_never_trained_on_but_are_in_holdouts() -> None:
    case = Case([10, 20, 110, 120], reserved=[1, 3])
    made = case.ready()
    assert case.parts() == ([10], [110, 120])
    assert np.flatnonzero(made.reserved).tolist() == [1]


def test_reserved_rows_alone_start_no_run() -> None:
    made = Case([10, 110], reserved=[0], window={"minRows": 1}).nothing()
    assert made.message == "0 of 1 training rows (data.window.minRows)"
