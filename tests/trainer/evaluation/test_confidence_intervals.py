"""Bounds by simulation with fixed seeds: coverage, power, pairing, clusters."""

import numpy as np
import pytest
from scipy.stats import norm

from springtide_trainer.evaluation.comparison import Scores, measure
from springtide_trainer.evaluation.confidence_intervals import (
    MAX_SAMPLES,
    Resampling,
    bootstrap_weights,
    expanded_tail,
    samples_for,
)
from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.metrics.classification import statistic
from springtide_trainer.tasks.metrics.statistic import EncodedRows


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def two(chance: np.ndarray) -> np.ndarray:
    return np.stack([1 - chance, chance], axis=1)


def compare(metric: str, rows: EncodedRows, one: np.ndarray, other: np.ndarray, by: Resampling):
    models = (Scores(Classification(["no", "yes"]), scores) for scores in (one, other))
    found = measure([metric], rows, candidate=next(models), live=next(models), by=by)[metric]
    return found.candidate, found.live, found.delta


def clustered(
    random: np.random.Generator, entities: int, rows: int
) -> tuple[EncodedRows, np.ndarray]:
    """Labels of one entity are correlated: its rows are not independent."""
    entity = np.repeat(np.arange(entities), rows)
    taste = random.normal(size=entities)[entity]
    label = (random.random(len(entity)) < sigmoid(1.5 * taste)).astype(int)
    return EncodedRows(label, entity), taste


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    rows, taste = clustered(np.random.default_rng(1), 50, 3)
    scores = two(sigmoid(taste))
    first = compare("auc", rows, scores, scores, Resampling(300, seed=5))
    assert first == compare("auc", rows, scores, scores, Resampling(300, seed=5))
    assert first[0] != compare("auc", rows, scores, scores, Resampling(300, seed=6))[0]


def test_each_sample_draws_as_many_entities_as_there_are() -> None:
    weights = np.concatenate(list(bootstrap_weights(40, rows=100_000, by=Resampling(250))))
    assert weights.shape == (250, 40)
    assert (weights.sum(axis=1) == 40).all()


def test_the_tail_of_a_percentile_is_that_of_hesterberg() -> None:
    # Phi(-sqrt(n / (n - 1)) t), t of 0.95 with n - 1 degrees of freedom, from printed tables.
    for entities, quantile in ((5, 2.132), (10, 1.833), (30, 1.699), (1000, 1.646)):
        expected = norm.cdf(-np.sqrt(entities / (entities - 1)) * quantile)
        assert expanded_tail(0.05, entities) == pytest.approx(expected, rel=2e-3)


def test_an_extreme_bound_has_twenty_samples_beyond_it_or_is_undefined() -> None:
    three_looks = Resampling(2000, confidence=1 - 0.05 / 3)
    needed = samples_for(10, three_looks)
    assert needed * expanded_tail(0.05 / 3, 10) == pytest.approx(20, rel=1e-3)
    assert samples_for(1000, three_looks) == 2000
    assert samples_for(10, Resampling(2000, confidence=0.9999)) == 2000
    assert samples_for(10, Resampling(2000, confidence=1 - 1e-15)) == 2000

    rows, taste = clustered(np.random.default_rng(1), 12, 3)
    scores = two(sigmoid(taste))
    own, _, _ = compare("log_loss", rows, scores, scores, Resampling(300, confidence=0.9999))
    assert np.isfinite(own.value)
    assert np.isnan([own.low, own.high]).all()


def test_a_confidence_of_999_in_1000_decides_from_a_hundred_entities_on() -> None:
    rows, taste = clustered(np.random.default_rng(1), 200, 2)
    by = Resampling(confidence=1 - 0.001 / 3)
    assert 20_000 < samples_for(100, by) <= MAX_SAMPLES
    good, bad = two(sigmoid(1.5 * taste)), two(sigmoid(-1.5 * taste))
    _, _, delta = compare("log_loss", rows, good, bad, by)
    assert delta.low < delta.value < delta.high < 0


def test_models_without_a_discordant_entity_have_bounds_for_unseen_entities() -> None:
    rows, taste = clustered(np.random.default_rng(1), 50, 3)
    scores = two(sigmoid(taste))
    _, _, delta = compare("accuracy", rows, scores, scores, Resampling(300))
    assert (delta.value, delta.error, delta.entities) == (0, 0, 50)
    assert delta.high == -delta.low == pytest.approx(1 - 0.05 ** (1 / 50))

    kept = np.append(np.ones(60, dtype=bool), np.arange(90) % 3 == 0)  # 20 with 3 rows, 30 with 1
    _, _, uneven = compare("accuracy", rows.only(kept), scores[kept], scores[kept], Resampling(300))
    assert uneven.high == pytest.approx((1 - 0.05 ** (1 / 50)) * 50 * 3 / 90)


@pytest.mark.parametrize(("gain", "value"), [(1, 1.0), (0, 0.0)])
def test_a_list_metric_of_1_or_0_in_every_list_has_bounds_for_unseen_lists(gain, value) -> None:
    group = np.repeat(np.arange(40), 2)
    best = np.tile([1, 0], 40)
    rows = EncodedRows(best, group, group)
    scores = two(np.where(best == gain, 0.9, 0.1))
    own, _, _ = compare("ndcg@1", rows, scores, scores, Resampling(300))
    assert (own.value, own.error, own.entities) == (value, 0, 40)
    bound = 1 - 0.05 ** (1 / 40)
    assert abs(own.low - own.high) == pytest.approx(bound)
    assert value in {own.low, own.high}

    one_list, first = rows.only(group == 0), scores[group == 0]
    own, _, _ = compare("ndcg@1", one_list, first, first, Resampling(300))
    assert np.isnan([own.low, own.high]).all()


@pytest.mark.parametrize("metric", ["auc", "pr_auc", "log_loss", "macro_f1", "ece"])
def test_other_metrics_without_variation_have_no_bounds(metric) -> None:
    rows, taste = clustered(np.random.default_rng(1), 50, 3)
    scores = two(sigmoid(taste))
    _, _, delta = compare(metric, rows, scores, scores, Resampling(300))
    assert (delta.value, delta.entities) == (0, 0)
    assert np.isnan([delta.low, delta.high]).all()


def test_one_error_of_thirty_has_the_exact_bound_of_clopper_and_pearson() -> None:
    rows = EncodedRows(np.append(0, np.ones(29, dtype=int)), np.arange(30))
    own, _, _ = compare("accuracy", rows, two(np.ones(30)), two(np.ones(30)), Resampling(2000))
    assert own.value == pytest.approx(29 / 30)
    assert own.low == pytest.approx(0.851, abs=5e-4)
    assert own.high > 0.99

    right = EncodedRows(np.ones(30, dtype=int), np.arange(30))
    own, _, _ = compare("accuracy", right, two(np.ones(30)), two(np.ones(30)), Resampling(2000))
    assert (own.value, own.high) == (1.0, 1.0)
    assert own.low == pytest.approx(0.05 ** (1 / 30))


def test_only_entities_that_affect_a_metric_contribute() -> None:
    random = np.random.default_rng(2)
    label = np.append(np.ones(5, dtype=int), np.zeros(995, dtype=int))
    rows = EncodedRows(label, np.arange(1000))
    one, other = two(random.random(1000)), two(random.random(1000))
    rare = {metric: compare(metric, rows, one, other, Resampling(200))[0].entities
            for metric in ("auc", "log_loss", "accuracy")}  # fmt: skip
    assert rare == {"auc": 5, "log_loss": 1000, "accuracy": 1000}

    five = np.where((np.arange(1000) < 5)[:, None], other, one)
    for metric in ("log_loss", "ece"):
        assert compare(metric, rows, one, five, Resampling(200))[2].entities == 5
    even = EncodedRows(np.arange(1000) % 2, np.arange(1000))
    assert compare("auc", even, one, other, Resampling(200))[2].entities == 1000
    assert compare("auc", even, one, five, Resampling(200))[2].entities == 5


def test_one_entity_has_a_value_and_no_bounds() -> None:
    rows = EncodedRows(np.array([0, 1, 1]), np.zeros(3, dtype=int))
    own, _, delta = compare("accuracy", rows, two(np.ones(3)), two(np.ones(3)), Resampling(300))
    assert own.value == pytest.approx(2 / 3)
    assert np.isnan([own.low, own.high, delta.low, delta.high]).all()


def test_a_class_missing_from_many_resamples_has_no_bound() -> None:
    rows = EncodedRows(np.array([1] + [0] * 30), np.arange(31))
    chance = np.append(0.9, np.linspace(0, 0.5, 30))
    own, _, _ = compare("auc", rows, two(chance), two(chance), Resampling(500))
    assert own.value == 1.0
    assert np.isnan([own.low, own.high]).all()


@pytest.mark.parametrize("metric", ["accuracy", "auc", "pr_auc"])
def test_bounds_have_about_their_nominal_coverage(metric) -> None:
    random = np.random.default_rng(7)
    rows, taste = clustered(random, 40_000, 5)
    population = float(
        statistic(metric, rows, two(sigmoid(taste)))(np.ones((1, 40_000), np.int32))[0]
    )
    below = above = 0
    runs = 300
    for run in range(runs):
        rows, taste = clustered(random, 120, 5)
        own, _, _ = compare(
            metric, rows, two(sigmoid(taste)), two(sigmoid(taste)), Resampling(400, seed=run)
        )
        below += own.low > population
        above += own.high < population
    # One-sided 95 %: 15 of 300 expected, standard deviation 3.8. The exact bound of an accuracy
    # counts an entity of many rows as one row, so it is conservative.
    least = 0 if metric == "accuracy" else 5
    assert least <= below <= 28
    assert least <= above <= 28


def test_bounds_of_independent_rows_would_be_too_narrow() -> None:
    rows, taste = clustered(np.random.default_rng(11), 200, 10)
    scores, by = two(sigmoid(taste * 0 + 0.1)), Resampling(400)
    clusters, _, _ = compare("accuracy", rows, scores, scores, by)
    single = EncodedRows(rows.label, np.arange(len(rows.label)))
    independent, _, _ = compare("accuracy", single, scores, scores, by)
    assert clusters.error > 1.5 * independent.error


@pytest.mark.parametrize("metric", ["auc", "log_loss", "ndcg@10"])
def test_equal_models_pass_superiority_about_5_percent_of_the_time(metric) -> None:
    random = np.random.default_rng(13)
    passed = 0
    runs = 300
    for run in range(runs):
        rows, taste = clustered(random, 150, 4)
        rows = EncodedRows(rows.label, rows.entity, rows.entity)
        one, other = (two(sigmoid(taste + random.normal(size=600))) for _ in range(2))
        _, _, delta = compare(metric, rows, one, other, Resampling(400, seed=run))
        passed += (delta.high < 0) if metric == "log_loss" else (delta.low > 0)
    assert 4 <= passed <= 28


def test_pairing_makes_bounds_of_the_difference_narrower() -> None:
    random = np.random.default_rng(17)
    rows, taste = clustered(random, 200, 5)
    one = two(sigmoid(taste + 0.1 * random.normal(size=1000)))
    other = two(sigmoid(taste + 0.1 * random.normal(size=1000)))
    first, second, delta = compare("auc", rows, one, other, Resampling(400))
    assert delta.error < 0.5 * min(first.error, second.error)
