"""The errors of predicted numbers equal scikit-learn's; resamples equal repeated rows."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn import metrics as sklearn

from springtide_trainer.tasks.metrics.regression import METRICS, statistic, trivial_baseline
from springtide_trainer.tasks.metrics.statistic import EncodedRows, whole


def some(rows: int, seed: int = 0, zeros: float = 0.0) -> tuple[EncodedRows, np.ndarray]:
    random = np.random.default_rng(seed)
    label = random.lognormal(3, 1, rows).round(2)
    label[random.random(rows) < zeros] = 0.0
    entity = np.unique(random.integers(0, max(rows // 4, 1), rows), return_inverse=True)[1]
    found = label + random.normal(0, 5, rows)
    return EncodedRows(label, entity), found[:, None].astype(np.float32)


def value(metric: str, rows: EncodedRows, found: np.ndarray) -> float:
    return whole(statistic(metric, rows, found), rows)


@pytest.mark.parametrize("seed", range(3))
def test_errors_are_those_of_scikit_learn(seed):
    rows, found = some(200, seed)
    expected = {
        "mae": sklearn.mean_absolute_error(rows.label, found),
        "rmse": sklearn.root_mean_squared_error(rows.label, found),
        "mape": sklearn.mean_absolute_percentage_error(rows.label, found),
        "r2": sklearn.r2_score(rows.label, found),
        "wape": np.abs(rows.label - found[:, 0]).sum() / rows.label.sum(),
    }
    assert {name: value(name, rows, found) for name in METRICS} == pytest.approx(expected)


def test_rows_with_label_0_count_in_wape_and_are_left_out_of_mape():
    rows = EncodedRows(np.array([0.0, 10.0, -20.0]), np.arange(3))
    found = np.array([[5.0], [11.0], [-16.0]])
    assert value("mape", rows, found) == pytest.approx((1 / 10 + 4 / 20) / 2)
    assert value("wape", rows, found) == pytest.approx((5 + 1 + 4) / 30)


def test_a_metric_that_is_undefined_is_nan():
    zeros = EncodedRows(np.zeros(4), np.arange(4))
    assert np.isnan(value("mape", zeros, np.ones((4, 1))))
    assert np.isnan(value("wape", zeros, np.ones((4, 1))))
    alike = EncodedRows(np.full(4, 0.1), np.arange(4))
    assert np.isnan(value("r2", alike, np.ones((4, 1))))
    for metric in METRICS:
        assert np.isnan(value(metric, zeros, np.array([[1.0], [np.nan], [1.0], [1.0]])))
        empty = EncodedRows(np.empty(0), np.empty(0, dtype=int))
        assert np.isnan(value(metric, empty, np.empty((0, 1))))
        assert np.isnan(trivial_baseline(metric, empty))


@pytest.mark.parametrize("metric", METRICS)
def test_a_resample_has_the_value_of_the_repeated_rows(metric):
    rows, found = some(60, seed=5, zeros=0.2)
    weights = np.random.default_rng(1).integers(0, 4, (3, rows.entities)).astype(np.int32)
    drawn = statistic(metric, rows, found)(weights)
    for draw, got in zip(weights, drawn, strict=True):
        repeated = np.repeat(np.arange(len(found)), draw[rows.entity])
        again = EncodedRows(rows.label[repeated], np.zeros(len(repeated), dtype=int))
        assert got == pytest.approx(value(metric, again, found[repeated]))


@pytest.mark.parametrize("metric", METRICS)
def test_the_trivial_baseline_is_the_best_constant(metric):
    rows, _ = some(151, seed=7, zeros=0.1)
    sign = -1 if metric == "r2" else 1

    def loss(constant: float) -> float:
        return sign * value(metric, rows, np.full((len(rows.label), 1), constant))

    best = min(
        loss(minimize_scalar(loss, bounds=(0, 100), method="bounded").x),
        *(loss(label) for label in rows.label),
    )
    assert sign * trivial_baseline(metric, rows) == pytest.approx(best, abs=1e-6)


def test_the_r2_of_the_best_constant_is_0():
    rows, _ = some(50)
    assert trivial_baseline("r2", rows) == pytest.approx(0.0)
