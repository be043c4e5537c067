"""The rules of windows and the cursor. Times are seconds, partitions last 100 s."""

from __future__ import annotations

import pytest
from trainer.data.small_stream import Case, latest, tail

from springtide_trainer.data.partitions import SECOND
from springtide_trainer.data.windows.window import NoWindow, WindowSplit

# Rule 1: time moves along the data's own timestamps.


def test_a_run_trains_up_to_the_boundary_and_is_evaluated_on_later_rows() -> None:
    case = Case([10, 20, 110, 120, 210, 220])
    assert case.parts() == ([10, 20, 110, 120], [210, 220])
    bounds = case.ready().bounds
    assert (bounds.start, bounds.trained_through, bounds.holdout_to) == (
        None,
        200 * SECOND,
        300 * SECOND,
    )


def test_the_holdout_of_today_is_training_data_of_the_next_run() -> None:
    first = Case([10, 110])
    through = first.ready().bounds.trained_through
    assert through == 100 * SECOND
    assert Case([10, 110, 210], cursor=100).parts() == ([110], [210])


def test_the_first_run_needs_two_partitions() -> None:
    made = Case([10, 20]).nothing()
    assert (made.reason, made.message) == ("NotEnoughData", "1 of 2 complete partitions")
    assert (made.pending, made.newest) == (2, "p0")


def test_rows_before_the_cursor_are_not_new_even_within_its_partition() -> None:
    assert Case([110, 150, 190, 210], cursor=150).parts() == ([150, 190], [210])


def test_the_message_of_no_new_data_has_the_cursor() -> None:
    made = Case([10, 110], cursor=200).nothing()
    assert made.reason == "NoNewData"
    assert made.message == "no new rows since 1970-01-01T00:03:20+00:00"
    assert (made.pending, made.newest) == (0, "p1")


@pytest.mark.parametrize(("now", "ready"), [(299, False), (300, True)])
def test_a_partition_is_complete_when_it_ended_longer_ago_than_the_delays(
    now: int, ready: bool
) -> None:
    made = Case([10, 110], now=now, delay=100).select_window()
    assert isinstance(made, WindowSplit) == ready
    if isinstance(made, NoWindow):
        assert made.reason == "NotComplete"
        assert "1 of 2 complete partitions; p1 is complete at 1970-01-01T00:05:00" in made.message


def test_a_partition_without_its_marker_is_not_complete() -> None:
    made = Case([10, 110], unmarked=[1]).nothing()
    assert made.reason == "NotComplete"
    assert "p1 has no _SUCCESS file" in made.message


def test_the_cursor_never_passes_an_incomplete_partition() -> None:
    made = Case([10, 110, 310, 410], unmarked=[2]).ready()
    assert made.partitions == ("p0",)
    assert made.holdout_partitions == ("p1",)


def test_an_empty_partition_does_not_count() -> None:
    made = Case([10, 510]).ready()
    assert (made.partitions, made.holdout_partitions) == (("p0",), ("p5",))
    assert made.bounds.trained_through == 100 * SECOND


def test_no_group_is_in_both_training_rows_and_holdout() -> None:
    case = Case([10, 90, 110, 120, 130], groups=[1, 2, 2, 3, 1])
    assert case.parts() == ([10, 90], [120])
    assert case.ready().straddling == 2


def test_a_group_that_began_before_the_cursor_is_excluded_from_the_holdout() -> None:
    assert Case([10, 110, 210, 220], groups=[1, 2, 1, 3], cursor=100).parts() == ([110], [220])


def test_tail_splits_at_a_timestamp_and_keeps_equal_ones_together() -> None:
    assert Case([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], holdout=tail("0.2")).parts() == (
        [1, 2, 3, 4, 5, 6, 7, 8],
        [9, 10],
    )
    assert Case([1, 2, 8, 8, 8, 9], holdout=tail("0.34")).parts() == ([1, 2], [8, 8, 8, 9])
    assert Case([1, 1, 1, 9], holdout=tail("0.9")).parts() == ([1, 1, 1], [9])


def test_tail_needs_rows_at_two_different_seconds() -> None:
    made = Case([5, 5, 5], holdout=tail("0.5")).nothing()
    assert (made.reason, made.message) == (
        "NotEnoughData",
        "1 of 2 distinct seconds with new rows",
    )


def test_a_tail_holdout_ends_with_the_newest_complete_partition() -> None:
    made = Case([1, 2, 3, 150, 250], now=250, holdout=tail("0.25")).ready()
    assert made.bounds.holdout_to == 200 * SECOND
    assert made.bounds.trained_through == 150 * SECOND


def test_filtered_holdout_rows_are_trained_on_later() -> None:
    case = Case([10, 110, 120], eligible=[False, False, True])
    assert case.parts() == ([10], [120])
    assert Case([110, 120, 210], eligible=[False, True, True], cursor=100).parts()[0] == [110, 120]


# Rule 2: quarantine.


def test_quarantined_partitions_are_used_neither_for_training_nor_as_holdout() -> None:
    made = Case([10, 110], quarantined=[1]).nothing()
    assert made.message == "1 of 2 complete partitions; 1 quarantined"
    assert Case([10, 110, 210, 310], quarantined=[0, 2]).parts() == ([110], [310])


def test_quarantined_partitions_can_be_after_the_cursor() -> None:
    case = Case([110, 210, 310], cursor=100, quarantined=[2])
    assert case.parts() == ([110], [310])
    assert case.ready().bounds.trained_through == 200 * SECOND


def test_a_quarantined_partition_without_its_marker_blocks_no_others() -> None:
    assert Case([10, 110, 210], unmarked=[1], quarantined=[1]).parts() == ([10], [210])


def test_a_released_partition_is_trained_on_next_and_never_a_holdout() -> None:
    case = Case([10, 20, 110, 210, 310], cursor=200, released=[0])
    assert case.parts() == ([10, 20, 210], [310])
    assert case.ready().partitions == ("p0", "p2")
    ahead = Case([10, 110, 210, 310], cursor=0, released=[3])
    assert ahead.parts() == ([10, 110], [210])


def test_a_released_partition_alone_starts_no_run() -> None:
    made = Case([10, 110, 210], cursor=200, released=[0]).nothing()
    assert made.message == "1 of 2 complete partitions"


def test_a_pending_candidate_is_evaluated_on_later_rows_without_training() -> None:
    case = Case([10, 110, 210, 310], cursor=0, holdout_from=100, quarantined=[1])
    assert case.parts() == ([], [210, 310])
    bounds = case.ready().bounds
    assert bounds.trained_through is None
    assert (bounds.holdout_from, bounds.holdout_to) == (100 * SECOND, 400 * SECOND)


def test_the_holdout_of_a_pending_candidate_grows_with_newer_partitions() -> None:
    assert Case([10, 110], holdout_from=100).parts()[1] == [110]
    assert Case([10, 110, 210], holdout_from=100).parts()[1] == [110, 210]


def test_a_pending_candidate_needs_the_strategys_number_of_partitions() -> None:
    made = Case([10, 110], holdout_from=100, holdout=latest(2)).nothing()
    assert made.message == "1 of 2 complete holdout partitions for the pending candidate"
    assert Case([10, 110, 210], holdout_from=100, holdout=latest(2)).parts()[1] == [110, 210]


def test_with_tail_a_pending_candidate_is_evaluated_on_all_later_rows() -> None:
    case = Case([10, 50, 60, 110], holdout_from=50, holdout=tail("0.5"))
    assert case.parts() == ([], [50, 60, 110])


def test_a_group_that_the_candidate_was_trained_on_is_not_in_its_holdout() -> None:
    case = Case([90, 110, 120], groups=[7, 7, 8], holdout_from=100)
    assert case.parts()[1] == [120]
