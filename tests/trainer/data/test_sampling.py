"""Sampling by hash: the floors of classes and slices first, then up to a number of rows."""

from __future__ import annotations

import hashlib
import math
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide_trainer.data.snapshots.sampling import Floor, choose, draws, grouped, pool, slices
from springtide_trainer.tasks.task import Classes

LABELS = st.lists(st.sampled_from("aaaaaabbbc"), min_size=1, max_size=80)


def names(count: int, start: int = 0) -> list[bytes]:
    return [hashlib.sha256(str(n).encode()).digest() for n in range(start, start + count)]


def one_each(labels: list[str]) -> Classes:
    known = sorted(set(labels))
    codes = np.array([known.index(label) for label in labels], np.int64)
    return Classes(known, np.arange(len(labels)), codes)


def sampled(
    rows: list[tuple[bytes, str]], seed: str = "7", *, floor: int, **limits: int
) -> set[bytes]:
    made = pool(draws((name for name, _ in rows), seed))
    mask = choose(made, [Floor(one_each([label for _, label in rows]), floor)], **limits)
    return {name for (name, _), taken in zip(rows, mask, strict=True) if taken}


@given(LABELS, st.integers(0, 6), st.integers(0, 60), st.integers(0, 60))
def test_each_class_gets_its_floor_then_rows_up_to_the_number_wanted(labels, floor, wanted, limit):
    rows = list(zip(names(len(labels)), labels, strict=True))
    taken = sampled(rows, floor=floor, wanted=wanted, limit=limit)
    floors = sum(min(floor, count) for count in Counter(labels).values())

    assert len(taken) == min(limit, max(floors, min(wanted, len(rows))))
    if floors <= limit:
        counts = Counter(label for name, label in rows if name in taken)
        assert all(counts[label] >= min(floor, n) for label, n in Counter(labels).items())


@given(LABELS, st.integers(1, 6), st.integers(1, 15))
def test_a_limit_below_the_floors_gives_all_classes_about_the_same_number(labels, floor, limit):
    rows = list(zip(names(len(labels)), labels, strict=True))
    taken = sampled(rows, floor=floor, wanted=0, limit=limit)
    counts, there = Counter(label for name, label in rows if name in taken), Counter(labels)
    most = max(counts.values())
    assert all(counts[label] >= min(most - 1, there[label], floor) for label in there)


@given(LABELS, st.integers(0, 6), st.integers(1, 40), st.randoms())
def test_the_sample_does_not_depend_on_the_order_of_the_rows(labels, floor, wanted, random):
    rows = list(zip(names(len(labels)), labels, strict=True))
    limits = {"floor": floor, "wanted": wanted, "limit": 60}
    taken = sampled(rows, **limits)
    random.shuffle(rows)
    assert sampled(rows, **limits) == taken


@given(LABELS, LABELS, st.integers(0, 6), st.integers(30, 60))
def test_a_sample_of_a_sample_and_new_rows_is_a_sample_of_all_rows(old, new, floor, limit):
    before = list(zip(names(len(old)), old, strict=True))
    later = list(zip(names(len(new), start=len(old)), new, strict=True))
    limits = {"floor": floor, "wanted": limit, "limit": limit}
    kept = sampled(before, **limits)
    merged = sampled([*(row for row in before if row[0] in kept), *later], **limits)
    assert merged == sampled([*before, *later], **limits)


@given(st.lists(st.integers(0, 12), min_size=1, max_size=80), LABELS, st.integers(1, 40))
def test_groups_are_taken_whole(groups, labels, limit):
    count = min(len(groups), len(labels))
    column = pa.chunked_array([pa.array([f"g{one}" for one in groups[:count]])])
    rows = pool(None, groups=grouped(column, "7"))
    mask = choose(rows, [Floor(one_each(labels[:count]), 2)], wanted=limit, limit=limit)

    assert mask.sum() <= limit
    for group in set(groups[:count]):
        inside = np.array([one == group for one in groups[:count]])
        assert mask[inside].all() or not mask[inside].any()


def test_another_seed_gives_another_sample():
    rows = [(name, "a") for name in names(200)]
    limits = {"floor": 0, "wanted": 50, "limit": 50}
    assert sampled(rows, "1", **limits) == sampled(rows, "1", **limits)
    assert sampled(rows, "1", **limits) != sampled(rows, "2", **limits)


def test_a_row_of_twice_the_weight_is_sampled_about_twice_as_often():
    count = 20_000
    weights = np.where(np.arange(count) % 2, 2.0, 1.0)
    mask = choose(pool(draws(names(count), "7"), weights=weights), [], wanted=400, limit=400)
    heavy = int(mask[weights == 2].sum())
    assert 240 <= heavy <= 294  # 2/3 of 400, plus and minus three standard errors


@pytest.mark.parametrize("size", [600, 4000, 20_000])
def test_a_sample_of_a_weighted_sample_is_in_proportion_to_the_weights(size):
    count = 20_000
    weights = np.where(np.arange(count) % 2, 4.0, 1.0)
    known = names(count)
    first = pool(draws(known, "7"), weights=weights)
    buffer = np.flatnonzero(choose(first, [], wanted=size, limit=size))
    below = first.key[np.setdiff1d(np.arange(count), buffer)].min(initial=math.inf)
    again = pool(draws((known[row] for row in buffer), "8"), weights=weights[buffer], below=below)
    taken = buffer[choose(again, [], wanted=400, limit=400)]
    heavy = int((weights[taken] == 4).sum())
    assert 296 <= heavy <= 344  # 4/5 of 400, plus and minus three standard errors


def test_a_row_of_several_classes_counts_for_each_and_a_row_of_none_only_for_the_total():
    classes = Classes(["a", "b"], np.array([0, 1, 1, 2, 3]), np.array([0, 0, 1, 0, 0]))
    keys = np.array([0.1, 0.4, 0.2, 0.3, 0.05])
    floor = choose(pool(keys), [Floor(classes, 1)], wanted=0, limit=9)
    assert floor.tolist() == [True, True, False, False, False]  # row 1 is the only one of b
    assert classes.counts(floor) == {"a": 2, "b": 1}
    assert choose(pool(keys), [Floor(classes, 1)], wanted=3, limit=9)[4]
    none = Classes([], np.empty(0, np.int64), np.empty(0, np.int64))
    assert choose(pool(keys), [Floor(none, 9)], wanted=2, limit=9).tolist() == [1, 0, 0, 0, 1]


def test_the_slice_of_a_row_is_a_value_and_an_empty_one_is_none():
    found = slices(pa.chunked_array([["de", ""], ["", "fr", "de"]]))
    assert (list(found.names), found.rows.tolist()) == (["de", "fr"], [0, 3, 4])
    assert found.codes.tolist() == [0, 1, 0]
    empty = slices(pa.chunked_array([[]], pa.string()))
    assert (list(empty.names), len(empty.rows)) == ([], 0)


ROWS = st.lists(st.tuples(st.sampled_from("aaaab"), st.sampled_from(["", "x", "y"])), max_size=60)
"""Classes and slices of rows."""


def of_both(
    rows: list[tuple[bytes, tuple[str, str]]], floors: tuple[int, int], **limits: int
) -> list[tuple[bytes, tuple[str, str]]]:
    by_class = Floor(one_each([label for _, (label, _) in rows]), floors[0])
    column = pa.chunked_array([[one for _, (_, one) in rows]], pa.string())
    made = pool(draws((name for name, _ in rows), "7"))
    mask = choose(made, [by_class, Floor(slices(column), floors[1])], **limits)
    return [row for row, taken in zip(rows, mask, strict=True) if taken]


@given(ROWS, st.integers(0, 6), st.integers(0, 6), st.integers(0, 40))
def test_classes_and_slices_each_get_their_floor_and_nothing_more_than_wanted(
    values, by_class, by_slice, wanted
):
    rows = list(zip(names(len(values)), values, strict=True))
    taken = of_both(rows, (by_class, by_slice), wanted=wanted, limit=60)
    floor = of_both(rows, (by_class, by_slice), wanted=0, limit=60)

    for place, least in ((0, by_class), (1, by_slice)):
        there = Counter(value[place] for _, value in rows)
        counts = Counter(value[place] for _, value in taken)
        assert all(counts[one] >= min(least, n) for one, n in there.items() if one)
    assert len(taken) == min(len(rows), max(wanted, len(floor)))
    assert len(floor) <= 2 * by_class + 2 * by_slice


@given(ROWS, ROWS, st.integers(0, 6), st.integers(0, 6))
def test_the_floors_of_a_sample_and_new_rows_are_those_of_all_rows(old, new, by_class, by_slice):
    before = list(zip(names(len(old)), old, strict=True))
    later = list(zip(names(len(new), start=len(old)), new, strict=True))
    floors = (by_class, by_slice)
    kept = of_both(before, floors, wanted=30, limit=30)  # at most 24 rows are in floors

    found = of_both([*kept, *later], floors, wanted=0, limit=30)
    assert found == of_both([*before, *later], floors, wanted=0, limit=30)


def test_a_limit_below_the_floors_is_shared_by_classes_and_slices():
    rows = [(name, ("a", "x" if n % 2 else "")) for n, name in enumerate(names(40))]
    taken = of_both(rows, (20, 20), wanted=40, limit=10)
    assert len(taken) == 10
    assert sum(one == "x" for _, (_, one) in taken) >= 5
