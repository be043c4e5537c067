"""What a bound promises, by simulation with fixed seeds: coverage, power, pairing, clusters."""

import numpy as np
import pytest

from springtide_trainer.intervals import Resampling, draws, estimate, resample
from springtide_trainer.metrics import Rows, statistic


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def two(chance: np.ndarray) -> np.ndarray:
    return np.stack([1 - chance, chance], axis=1)


def compare(metric: str, rows: Rows, one: np.ndarray, other: np.ndarray, by: Resampling):
    prepared = {"one": statistic(metric, rows, one), "other": statistic(metric, rows, other)}
    size = rows.entities
    found = resample(prepared, entities=size, rows=len(rows.label), by=by)
    parts = [found["one"], found["other"], found["one"].minus(found["other"])]
    return [estimate(part, entities=size, by=by) for part in parts]


def clustered(random: np.random.Generator, entities: int, rows: int) -> tuple[Rows, np.ndarray]:
    """Rows of an entity share a taste that the label follows: they are worth less than as many."""
    entity = np.repeat(np.arange(entities), rows)
    taste = random.normal(size=entities)[entity]
    label = (random.random(len(entity)) < sigmoid(1.5 * taste)).astype(int)
    return Rows(label, entity), taste


def test_the_same_seed_gives_the_same_interval_and_another_seed_another() -> None:
    rows, taste = clustered(np.random.default_rng(1), 50, 3)
    scores = two(sigmoid(taste))
    first = compare("auc", rows, scores, scores, Resampling(300, seed=5))
    assert first == compare("auc", rows, scores, scores, Resampling(300, seed=5))
    assert first[0] != compare("auc", rows, scores, scores, Resampling(300, seed=6))[0]


def test_an_entity_is_drawn_as_often_as_there_are_entities() -> None:
    weights = np.concatenate(list(draws(40, rows=100_000, by=Resampling(250))))
    assert weights.shape == (250, 40)
    assert (weights.sum(axis=1) == 40).all()


def test_the_same_model_twice_differs_by_nothing() -> None:
    rows, taste = clustered(np.random.default_rng(1), 50, 3)
    _, _, delta = compare("auc", rows, two(sigmoid(taste)), two(sigmoid(taste)), Resampling(300))
    assert (delta.value, delta.low, delta.high, delta.error) == (0, 0, 0, 0)


def test_one_entity_has_a_value_and_no_bounds() -> None:
    rows = Rows(np.array([0, 1, 1]), np.zeros(3, dtype=int))
    own, _, delta = compare("accuracy", rows, two(np.ones(3)), two(np.ones(3)), Resampling(300))
    assert own.value == pytest.approx(2 / 3)
    assert np.isnan([own.low, own.high, delta.low, delta.high]).all()


def test_a_rare_class_that_resamples_lose_has_no_bound() -> None:
    rows = Rows(np.array([1] + [0] * 30), np.arange(31))
    chance = np.append(0.9, np.linspace(0, 0.5, 30))
    own, _, _ = compare("auc", rows, two(chance), two(chance), Resampling(500))
    assert own.value == 1.0
    assert np.isnan([own.low, own.high]).all()


@pytest.mark.parametrize("metric", ["accuracy", "auc", "pr_auc"])
def test_bounds_cover_the_truth_about_as_often_as_they_say(metric) -> None:
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
    # One-sided 95 %: 15 of 300 expected, standard deviation 3.8.
    assert 5 <= below <= 28
    assert 5 <= above <= 28


def test_treating_rows_as_independent_would_promise_too_much() -> None:
    rows, taste = clustered(np.random.default_rng(11), 200, 10)
    scores, by = two(sigmoid(taste * 0 + 0.1)), Resampling(400)
    clusters, _, _ = compare("accuracy", rows, scores, scores, by)
    single = Rows(rows.label, np.arange(len(rows.label)))
    independent, _, _ = compare("accuracy", single, scores, scores, by)
    assert clusters.error > 1.5 * independent.error


@pytest.mark.parametrize("metric", ["auc", "log_loss", "ndcg@10"])
def test_equal_models_pass_superiority_about_one_time_in_twenty(metric) -> None:
    random = np.random.default_rng(13)
    passed = 0
    runs = 300
    for run in range(runs):
        rows, taste = clustered(random, 150, 4)
        rows = Rows(rows.label, rows.entity, rows.entity)
        one, other = (two(sigmoid(taste + random.normal(size=600))) for _ in range(2))
        _, _, delta = compare(metric, rows, one, other, Resampling(400, seed=run))
        passed += (delta.high < 0) if metric == "log_loss" else (delta.low > 0)
    assert 4 <= passed <= 28


def test_pairing_makes_the_difference_sharper_than_either_model() -> None:
    random = np.random.default_rng(17)
    rows, taste = clustered(random, 200, 5)
    one = two(sigmoid(taste + 0.1 * random.normal(size=1000)))
    other = two(sigmoid(taste + 0.1 * random.normal(size=1000)))
    first, second, delta = compare("auc", rows, one, other, Resampling(400))
    assert delta.error < 0.5 * min(first.error, second.error)
