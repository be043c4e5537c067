"""Metrics of ranked groups compared with their definitions and with many random orders."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from springtide_trainer.tasks.metrics.ranked_groups import random_order, statistic, values
from springtide_trainer.tasks.metrics.statistic import EncodedRows, whole

METRICS = ("ndcg@10", "ndcg@2", "mrr", "mrr@2", "map")


def by_definition(metric: str, gains: list[float]) -> float:
    """Compute a metric of one list, ranked from the first."""
    name, _, k = metric.partition("@")
    most = int(k) if k else len(gains)
    hits = [place + 1 for place, gain in enumerate(gains) if gain > 0]
    if not hits:
        return math.nan
    if name == "mrr":
        return 1 / hits[0] if hits[0] <= most else 0.0
    if name == "map":
        return sum((number + 1) / rank for number, rank in enumerate(hits)) / len(hits)

    def dcg(ordered: list[float]) -> float:
        return sum(gain / math.log2(place + 2) for place, gain in enumerate(ordered[:most]))

    return dcg(gains) / dcg(sorted(gains, reverse=True))


LISTS = st.lists(st.lists(st.sampled_from([0, 0, 1, 2.5]), min_size=1, max_size=6), min_size=1)


@pytest.mark.parametrize("metric", METRICS)
@given(lists=LISTS, data=st.data())
def test_each_group_has_the_value_of_the_definition(metric, lists, data):
    group = np.repeat(np.arange(len(lists)), [len(each) for each in lists])
    gain = np.concatenate(lists).astype(float)
    score = -np.concatenate([np.arange(len(each)) for each in lists]).astype(float)
    shuffled = np.array(data.draw(st.permutations(range(len(gain)))))
    found = values(metric, group[shuffled], gain[shuffled], score[shuffled])
    expected = [by_definition(metric, each) for each in lists]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("metric", METRICS)
def test_the_trivial_baseline_is_the_mean_of_random_orders(metric):
    random = np.random.default_rng(3)
    group = np.unique(random.integers(0, 30, 200), return_inverse=True)[1]
    gain = random.choice([0.0, 0.0, 0.0, 1.0, 3.0], 200)
    rows = EncodedRows(gain, group, group)
    found = [whole(statistic(metric, rows, gain, random.random(200)), rows) for _ in range(500)]
    error = np.std(found) / np.sqrt(len(found))
    assert random_order(metric, group, gain) == pytest.approx(np.mean(found), abs=4 * error)


@pytest.mark.parametrize("metric", METRICS)
def test_groups_without_a_relevant_row_are_dropped(metric):
    rows = EncodedRows(np.zeros(4), np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1]))
    gain, score = np.array([0, 0, 0, 1.0]), np.array([1.0, 2, 3, 4])
    assert whole(statistic(metric, rows, gain, score), rows) == 1.0
    assert math.isnan(whole(statistic(metric, rows, np.zeros(4), score), rows))
    assert math.isnan(random_order(metric, rows.group, np.zeros(4)))


@pytest.mark.parametrize("metric", METRICS)
def test_equal_scores_are_ordered_independently_of_the_gain(metric):
    gain = np.tile([1.0, 0, 0, 0, 0], 400)
    group = np.repeat(np.arange(400), 5)
    rows = EncodedRows(gain, group, group)
    tied = whole(statistic(metric, rows, gain, np.zeros(2000)), rows)
    assert tied == pytest.approx(random_order(metric, group, gain), abs=0.06)


def test_a_score_that_is_not_a_number_makes_the_metric_undefined():
    rows = EncodedRows(np.ones(2), np.zeros(2, int), np.zeros(2, int))
    assert math.isnan(whole(statistic("mrr", rows, np.ones(2), np.array([1.0, np.nan])), rows))
