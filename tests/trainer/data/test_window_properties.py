"""Properties of windows for any stream and any settings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import event, given, settings
from hypothesis import strategies as st

from springtide_api.update.data import Holdout, Window
from springtide_trainer.data.partitions import SECOND, Span, within
from springtide_trainer.data.windows.new_data import PartitionState, StreamIndex, WindowRequest
from springtide_trainer.data.windows.window import NoWindow, WindowSplit, select_window

PARTS = 7
LENGTH = 10


def span(at: int) -> Span:
    return Span(at * LENGTH * SECOND, (at + 1) * LENGTH * SECOND, f"p{at}")


timestamps = st.integers(0, PARTS * LENGTH * 2).map(lambda half: half * SECOND // 2)
few_parts = st.lists(st.integers(0, PARTS), max_size=2, unique=True)


def micros_or_none(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * SECOND


@st.composite
def streams(draw: st.DrawFn) -> tuple[StreamIndex, list[PartitionState]]:
    times = draw(st.lists(timestamps, min_size=draw(st.sampled_from([0, 12, 12, 12])), max_size=30))
    count = len(times)

    def column(values: st.SearchStrategy[Any]) -> np.ndarray:
        return np.array(draw(st.lists(values, min_size=count, max_size=count)), dtype=np.int64)

    entity = column(st.integers(0, 6))
    rows = StreamIndex(
        moment=np.array(times, dtype=np.int64),
        reserved=np.isin(entity, draw(st.lists(st.integers(0, 6), max_size=2))),
        eligible=column(st.integers(0, 3)) > 0,
        entity=entity,
        group=column(st.integers(0, 20)) if draw(st.booleans()) else None,
        served=column(st.integers(-1, 3)) if draw(st.booleans()) else None,
        labelled=column(st.integers(0, 3)) > 1 if draw(st.booleans()) else None,
    )
    unmarked = draw(few_parts) if draw(st.integers(0, 3)) == 0 else []
    empty = set(range(PARTS + 1)) - set((rows.moment // SECOND // LENGTH).tolist())
    gone = empty if draw(st.booleans()) else set()
    return rows, [
        PartitionState(span(at), at not in unmarked, delivered=at not in gone)
        for at in range(PARTS + 1)
    ]


@st.composite
def asks(draw: st.DrawFn) -> WindowRequest:
    tail = {"type": "Tail", "tail": {"fraction": draw(st.sampled_from(["0.1", "0.5", "0.9"]))}}
    number = {"partitions": draw(st.integers(1, 2))}
    latest = {"type": "LatestPartitions", "latestPartitions": number}
    window = {
        "minRows": draw(st.sampled_from([1, 1, 3])),
        "maxRows": draw(st.one_of(st.none(), st.integers(3, 10))),
    }
    holdout = {
        "strategy": draw(st.sampled_from([tail, latest])),
        "minRows": draw(st.sampled_from([1, 1, 2])),
        "minEntities": draw(st.sampled_from([1, 1, 2])),
    }
    quarantined = draw(few_parts)
    return WindowRequest(
        now=draw(st.sampled_from([2, 4, 6, 8, 9, 9, 9])) * LENGTH * SECOND,
        window=Window.model_validate(window),
        holdout=Holdout.model_validate(holdout),
        delay=draw(st.integers(0, LENGTH)) * SECOND,
        cursor=draw(st.one_of(st.none(), st.sampled_from([5, 10, 20, 41])).map(micros_or_none)),
        quarantined=tuple(map(span, quarantined)),
        released=tuple(span(at) for at in draw(few_parts) if at not in quarantined),
        excluded_generations=draw(st.sampled_from([(), (2,), (0, 3, 9)])),
    )


def served_by_excluded(rows: StreamIndex, asked: WindowRequest) -> np.ndarray:
    if rows.served is None:
        return np.zeros(len(rows.moment), dtype=bool)
    return np.array([number in asked.excluded_generations for number in rows.served], dtype=bool)


@given(streams(), asks())
@settings(max_examples=400)
def test_the_parts_of_a_window_are_disjoint_and_within_its_bounds(
    stream: tuple[StreamIndex, list[PartitionState]], asked: WindowRequest
) -> None:
    rows, known = stream
    made = select_window(rows, known, asked)
    event(type(made).__name__)
    if not isinstance(made, WindowSplit):
        return
    bounds = made.bounds
    cut = bounds.trained_through
    assert cut is not None
    released, quarantined = (
        within(rows.moment, asked.released),
        within(rows.moment, asked.quarantined),
    )

    assert not (made.train & made.holdout | made.train & made.reserved).any()
    assert not (made.reserved & made.holdout).any()
    assert made.train.any()
    assert made.holdout.any()
    assert (rows.moment[made.train] < cut).all()
    assert (rows.moment[made.holdout] >= cut).all()
    assert (rows.moment[made.holdout] < bounds.holdout_to).all()
    assert not rows.reserved[made.train].any()
    assert not (quarantined & (made.train | made.holdout | made.reserved)).any()
    assert not (released & made.holdout).any()
    left_out = served_by_excluded(rows, asked)
    assert not (left_out & (made.train | made.holdout | made.reserved)).any()
    assert sum(made.excluded.values()) <= np.count_nonzero(left_out)
    assert rows.eligible[made.holdout].all()
    assert not rows.unlabelled[made.holdout | made.reserved].any()
    if asked.cursor is not None:
        assert (rows.moment[made.train & ~released] >= asked.cursor).all()
        assert cut > asked.cursor
    if rows.group is not None:
        before = set(rows.group[rows.moment < cut])
        assert before.isdisjoint(rows.group[made.holdout])


@given(streams(), asks())
@settings(max_examples=400)
def test_the_cursor_passes_no_row_that_was_not_trained_on(
    stream: tuple[StreamIndex, list[PartitionState]], asked: WindowRequest
) -> None:
    rows, known = stream
    made = select_window(rows, known, asked)
    event(type(made).__name__)
    if not isinstance(made, WindowSplit):
        return
    cut = made.bounds.trained_through
    assert cut is not None
    begin = asked.cursor if asked.cursor is not None else 0
    passed = (rows.moment >= begin) & (rows.moment < cut)
    passed &= ~within(rows.moment, asked.quarantined) & ~rows.reserved
    passed &= ~served_by_excluded(rows, asked)
    assert (made.train[passed]).all()
    for one in known:
        if begin < one.span.end and one.span.start < made.bounds.holdout_to:
            assert asked.complete(one) or asked.excluded(one)


@given(streams(), asks())
@settings(max_examples=300)
def test_a_window_respects_its_minima_and_limits(
    stream: tuple[StreamIndex, list[PartitionState]], asked: WindowRequest
) -> None:
    rows, known = stream
    made = select_window(rows, known, asked)
    event(type(made).__name__)
    if not isinstance(made, WindowSplit):
        return
    latest = asked.holdout.strategy.latest_partitions
    most, least = asked.window.max_rows, asked.window.min_rows
    trained = made.train & ~within(rows.moment, asked.released)
    assert made.bounds.trainable >= least
    assert made.holdout.sum() >= asked.holdout.min_rows
    assert len(set(rows.entity[made.holdout].tolist())) >= asked.holdout.min_entities
    if most is None:
        assert latest is None or len(made.holdout_partitions) <= latest.partitions
        return
    lengths = rows.moment[trained] // SECOND // (LENGTH if latest else 1)
    known = made.train & ~rows.unlabelled
    without_last = known.sum() - (known[trained] & (lengths == lengths.max(initial=0))).sum()
    needed = rows.labelled is not None and without_last < least
    assert made.train.sum() <= most or len(set(lengths.tolist())) <= 1 or needed
    if rows.labelled is not None:
        assert known.sum() >= least


@given(streams(), asks())
@settings(max_examples=300)
def test_no_window_is_too_short_for_ever(
    stream: tuple[StreamIndex, list[PartitionState]], asked: WindowRequest
) -> None:
    """Also one that ends at maxRows: later rows that can be used make it ready."""
    rows, known = stream
    made = select_window(rows, known, asked)
    event(f"{type(made).__name__} {made.reason if isinstance(made, NoWindow) else ''}")
    if isinstance(made, NoWindow) and made.reason == "NotComplete":
        return
    last = 2 * PARTS
    later = np.repeat(np.arange(PARTS + 1, last) * LENGTH, 10) + np.tile(np.arange(10), PARTS - 1)
    count, total = len(later), len(rows.moment) + len(later)

    def longer(column: np.ndarray | None, values: Any) -> np.ndarray | None:
        return None if column is None else np.append(column, np.broadcast_to(values, count))

    more = StreamIndex(
        moment=np.append(rows.moment, later * SECOND),
        reserved=np.append(rows.reserved, np.zeros(count, dtype=bool)),
        eligible=np.append(rows.eligible, np.ones(count, dtype=bool)),
        entity=np.append(rows.entity, 100 + np.arange(count)),
        group=longer(rows.group, 100 + np.arange(count)),
        served=longer(rows.served, -1),
        labelled=longer(rows.labelled, True),
    )
    known = [one for one in known if one.span.start < (PARTS + 1) * LENGTH * SECOND]
    complete = [PartitionState(span(at)) for at in range(PARTS + 1, last)]
    request = replace(asked, now=3 * PARTS * LENGTH * SECOND, quarantined=())
    present = [replace(one, marked=True, delivered=True) for one in known]
    assert len(more.moment) == total
    assert isinstance(select_window(more, [*present, *complete], request), WindowSplit)


@given(streams(), asks(), st.randoms(use_true_random=False))
@settings(max_examples=150)
def test_the_order_of_the_rows_does_not_matter(
    stream: tuple[StreamIndex, list[PartitionState]], asked: WindowRequest, chance: Any
) -> None:
    rows, known = stream
    order = list(range(len(rows.moment)))
    chance.shuffle(order)
    shuffled = StreamIndex(
        moment=rows.moment[order],
        reserved=rows.reserved[order],
        eligible=rows.eligible[order],
        entity=rows.entity[order],
        group=None if rows.group is None else rows.group[order],
        served=None if rows.served is None else rows.served[order],
        labelled=None if rows.labelled is None else rows.labelled[order],
    )
    made, again = select_window(rows, known, asked), select_window(shuffled, known[::-1], asked)
    if isinstance(made, WindowSplit):
        assert isinstance(again, WindowSplit)
        assert made.bounds == again.bounds
        assert (made.train[order] == again.train).all()
        assert (made.holdout[order] == again.holdout).all()
    else:
        assert made == again


@given(streams(), asks())
@settings(max_examples=200)
def test_a_chain_of_promotions_trains_on_every_row_once(
    stream: tuple[StreamIndex, list[PartitionState]], asked: WindowRequest
) -> None:
    rows, known = stream
    trained = np.zeros(len(rows.moment), dtype=int)
    made = select_window(rows, known, with_cursor(asked, asked.cursor))
    cursor = asked.cursor or 0
    while isinstance(made, WindowSplit):
        assert made.bounds.trained_through is not None
        assert made.bounds.trained_through > cursor
        cursor = made.bounds.trained_through
        trained += made.train
        made = select_window(rows, known, with_cursor(asked, cursor))
    begin = asked.cursor or 0
    wanted = (rows.moment >= begin) & (rows.moment < cursor) & ~rows.reserved
    wanted &= ~within(rows.moment, asked.quarantined) & ~served_by_excluded(rows, asked)
    assert trained.tolist() == wanted.astype(int).tolist()


def with_cursor(asked: WindowRequest, cursor: int | None) -> WindowRequest:
    return WindowRequest(
        now=asked.now,
        window=asked.window,
        holdout=asked.holdout,
        delay=asked.delay,
        cursor=cursor,
        quarantined=asked.quarantined,
        excluded_generations=asked.excluded_generations,
    )


@given(streams(), asks(), timestamps)
@settings(max_examples=200)
def test_a_pending_candidate_is_evaluated_on_all_later_rows_and_no_others(
    stream: tuple[StreamIndex, list[PartitionState]], asked: WindowRequest, begin: int
) -> None:
    rows, known = stream
    waiting = WindowRequest(
        now=asked.now,
        window=asked.window,
        holdout=asked.holdout,
        delay=asked.delay,
        holdout_from=begin,
        quarantined=asked.quarantined,
        excluded_generations=asked.excluded_generations,
    )
    made = select_window(rows, known, waiting)
    event(type(made).__name__)
    if not isinstance(made, WindowSplit):
        return
    assert not made.train.any()
    assert not made.reserved.any()
    after = (rows.moment >= begin) & (rows.moment < made.bounds.holdout_to) & rows.eligible
    after &= ~within(rows.moment, asked.quarantined) & ~served_by_excluded(rows, asked)
    after &= ~rows.unlabelled
    if rows.group is not None:
        after &= ~np.isin(rows.group, rows.group[rows.moment < begin])
    assert made.holdout.tolist() == after.tolist()
