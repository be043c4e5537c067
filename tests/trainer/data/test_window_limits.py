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


def test_a_window_that_max_rows_ends_gets_a_holdout_with_its_minima() -> None:
    """It does not grow with later data, so a holdout that is too short would stay so."""
    seconds = [10, 20, 110, 210, 220, 310, 320, 330, 410]
    most = {"maxRows": 2}
    assert Case(seconds, window=most).parts() == ([10, 20], [110])
    longer = Case(seconds, window=most, holdout=latest(1, minRows=3))
    assert longer.parts() == ([10, 20], [110, 210, 220])
    assert longer.ready().holdout_partitions == ("p1", "p2")
    assert longer.ready().bounds.holdout_to == 300 * SECOND
    entities = Case(
        seconds,
        entities=[1, 2, 3, 3, 3, 3, 4, 4, 4],
        window=most,
        holdout=latest(1, minEntities=2),
    )
    assert entities.parts()[1] == [110, 210, 220, 310, 320, 330]
    short = Case(seconds, window=most, holdout=latest(1, minRows=9)).nothing()
    assert short.message == "7 of 9 holdout rows (data.holdout.minRows)"
    eligible = [True, True, False, False, True, True, True, True, True]
    assert Case(seconds, eligible=eligible, window=most).parts()[1] == [220]
    share = Case(list(range(1, 41)), window={"maxRows": 4}, holdout=tail("0.2", minRows=5))
    assert share.parts() == ([1, 2, 3, 4], list(range(5, 41)))


# Rows without a label.


def test_max_rows_ends_no_window_before_it_has_min_rows_with_a_label() -> None:
    seconds = [10, 20, 110, 120, 210, 220, 310, 410]
    labelled = [False, False, False, True, True, False, True, True]
    most = {"maxRows": 2}
    assert Case(seconds, labelled=labelled, window=most).parts() == ([10, 20, 110, 120], [210])
    more = Case(seconds, labelled=labelled, window={"minRows": 2, "maxRows": 2})
    assert more.parts() == ([10, 20, 110, 120, 210, 220], [310])
    share = Case(seconds, labelled=labelled, window=most, holdout=tail("0.25"))
    assert share.parts() == ([10, 20, 110, 120], [210])
    known = Case(seconds, labelled=[True] * 8, window=most)
    assert known.parts() == Case(seconds, window=most).parts()


def test_a_partition_without_a_label_after_max_rows_is_not_waited_for() -> None:
    seconds = [10, 20, 110, 210, 310]
    labelled = [True, True, False, True, True]
    made = Case(seconds, labelled=labelled, window={"maxRows": 2})
    assert made.parts() == ([10, 20], [210])
    assert made.ready().holdout_partitions == ("p2",)


def test_with_max_wait_a_window_has_what_labels_there_are() -> None:
    window = {"minRows": 9, "maxRows": 9, "maxWait": "1s"}
    made = Case([10, 20, 110, 210], labelled=[False, True, False, True], window=window)
    assert made.parts() == ([10, 20, 110], [210])


# A holdout ends with its last row.


def test_a_partition_without_a_row_of_the_holdout_makes_it_no_longer() -> None:
    """Nor is it named: equal rows in a holdout of another name would be judged again."""
    seconds, waiting = [110, 120, 210, 220], {"holdout_from": 100}
    plain = Case(seconds[:2], **waiting).ready()
    kinds = {
        "eligible": [True, True, False, False],
        "labelled": [True, True, False, False],
        "groups": [1, 2, 3, 3],
    }
    for name, values in kinds.items():
        first = [] if name != "groups" else [10]
        given = {name: values if name != "groups" else [3, *values]}
        made = Case([*first, *seconds], **given, **waiting).ready()
        assert made.holdout_partitions == plain.holdout_partitions == ("p1",), name
        assert made.bounds.holdout_to == plain.bounds.holdout_to == 200 * SECOND, name
        assert made.holdout.sum() == 2, name
