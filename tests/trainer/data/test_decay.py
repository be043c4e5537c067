"""Decay: how likely a row is sampled halves with each half-life, in a buffer and a draw of it."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide_trainer.data.snapshots.decay import Decay, Limits
from springtide_trainer.data.snapshots.sampling import Floor, Grouped, choose, draws, pool
from springtide_trainer.tasks.task import Classes

DAY = 24.0
NOW = 480_000.0
AGES = 6
NONE = Classes([], np.empty(0, np.int64), np.empty(0, np.int64))


def names(count: int, start: int = 0) -> list[bytes]:
    return [hashlib.sha256(str(n).encode()).digest() for n in range(start, start + count)]


def times(count: int, half_life: float = DAY) -> np.ndarray:
    """Return times from 0 to 5 half-lives before NOW, as many rows of each."""
    return NOW - half_life * (np.arange(count) % AGES)


def kept(key: np.ndarray, size: int) -> np.ndarray:
    return np.sort(np.argsort(key, kind="stable")[:size])


def cut(key: np.ndarray, rows: np.ndarray) -> float:
    return float(np.delete(key, rows).min(initial=math.inf))


def keys(seed: str, known: list[bytes], decay: Decay, weights: np.ndarray | None = None):
    return pool(draws(known, seed), weights=weights, decay=decay).key


def assert_halves(counts: np.ndarray, factor: float = 0.5) -> None:
    """Assert that counts by age follow powers of the factor, within four standard errors."""
    share = factor ** np.arange(len(counts))
    expected = counts.sum() * share / share.sum()
    assert (np.abs(counts - expected) <= 4 * np.sqrt(expected)).all(), (counts, expected)


def test_how_often_a_row_is_kept_halves_with_each_half_life():
    count, size = 12_000, 120
    counts = np.zeros(AGES)
    for seed in range(40):
        found = kept(keys(str(seed), names(count), Decay(times(count), DAY)), size)
        counts += np.bincount(found % AGES, minlength=AGES)
    assert_halves(counts)


@pytest.mark.parametrize("size", [600, 3000, 12_000])
def test_how_often_a_row_is_drawn_from_a_buffer_that_decays_halves_with_each_half_life(size):
    count, known = 12_000, names(12_000)
    counts = np.zeros(AGES)
    for seed in range(20):
        key = keys(f"buffer{seed}", known, Decay(times(count), DAY))
        buffer = kept(key, size)
        limits = Limits().lowered(DAY, cut(key, buffer), times(count)[buffer])
        decay = Decay(times(count)[buffer], DAY, limits)
        again = keys(f"draw{seed}", [known[row] for row in buffer], decay)
        counts += np.bincount(buffer[kept(again, 60)] % AGES, minlength=AGES)
    assert_halves(counts)


@pytest.mark.parametrize(
    ("before", "after", "factor"),
    [(math.inf, DAY, 0.5), (DAY, math.inf, 1.0), (2 * DAY, DAY, 0.5), (DAY, 2 * DAY, 0.5**0.5)],
)
def test_after_a_change_of_the_half_life_draws_follow_the_new_one(before, after, factor):
    count, known, weights = 12_000, names(12_000), np.where(np.arange(12_000) // AGES % 2, 3.0, 1.0)
    counts, heavy = np.zeros(AGES), 0
    for seed in range(20):
        key = keys(f"buffer{seed}", known, Decay(times(count), before), weights)
        buffer = kept(key, 6000)
        lowest = cut(key, buffer)
        limits = Limits(2**lowest) if before == math.inf else Limits(decayed={before: lowest})
        decay = Decay(times(count)[buffer], after, limits)
        again = keys(f"draw{seed}", [known[row] for row in buffer], decay, weights[buffer])
        taken = buffer[kept(again, 60)]
        counts += np.bincount(taken % AGES, minlength=AGES)
        heavy += int((weights[taken] == 3).sum())
    assert_halves(counts, factor)
    assert abs(heavy - 900) <= 4 * math.sqrt(1200 * 0.75 * 0.25)


def test_limits_of_another_half_life_are_kept_while_rows_are_near_them_then_dropped():
    rows = np.array([NOW - 3 * DAY, NOW])
    first = Limits(0.25)
    second = first.lowered(DAY, -3.0 - NOW / DAY, rows)  # 2^-3 for new rows, 2^-6 for the old one
    assert (second.below, second.decayed) == (math.inf, {DAY: -3.0 - NOW / DAY})

    faster = second.lowered(DAY / 2, -3.0 - NOW / (DAY / 2), rows)
    assert set(faster.decayed) == {DAY / 2}
    slower = second.lowered(2 * DAY, -3.0 - NOW / (2 * DAY), rows)
    assert set(slower.decayed) == {DAY, 2 * DAY}
    assert set(slower.lowered(2 * DAY, -7.0 - NOW / (2 * DAY), rows).decayed) == {2 * DAY}

    none = second.lowered(None, 2.0**-3, rows)
    assert (none.below, set(none.decayed)) == (2.0**-3, {DAY})
    assert none.lowered(None, 2.0**-7, rows) == Limits(2.0**-7)
    assert Limits.of(slower.plain()) == slower
    assert first.plain() == {"below": 0.25}


TIMES = st.lists(st.integers(0, 30), min_size=1, max_size=60)


@given(TIMES, TIMES, st.integers(0, 4), st.integers(12, 40))
def test_a_sample_of_a_sample_and_new_rows_is_a_sample_of_all_rows_however_they_are_cut(
    old, new, floor, limit
):
    ages, known = np.array([*old, *new], float), names(len(old) + len(new))
    classes = np.arange(len(ages)) % 3

    def sampled(rows: np.ndarray) -> np.ndarray:
        of_class = Classes(list("abc"), np.arange(len(rows)), classes[rows])
        decay = Decay(NOW - ages[rows], 7.0)
        made = pool(draws((known[row] for row in rows), "7"), decay=decay)
        return rows[choose(made, [Floor(of_class, floor)], wanted=limit, limit=limit)]

    everything = np.arange(len(ages))
    first = sampled(everything[: len(old)])
    assert set(sampled(np.append(first, everything[len(old) :]))) == set(sampled(everything))


def test_a_group_decays_by_its_newest_row():
    decay = Decay(np.array([NOW - 90 * DAY, NOW, NOW - DAY]), DAY)
    groups = Grouped(np.array([0, 0, 1]), np.array([0.5, 0.5]))
    found = pool(None, groups=groups, decay=decay).key
    assert found[1] - found[0] == pytest.approx(1)


def test_rows_that_are_older_than_any_weight_can_say_are_still_ordered_and_sampled():
    rows = np.array([0.0, NOW - 5000, NOW])  # half a million half-lives, 5,000 half-lives, none
    key = keys("7", names(3), Decay(rows, 1.0, Limits(decayed={1.0: -2.0 - NOW})))
    assert np.isfinite(key).all()
    assert np.argmin(keys("7", names(3), Decay(rows, 1.0))) == 2
