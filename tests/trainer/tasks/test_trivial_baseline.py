"""The score of the trivial baseline compared with many random predictions."""

import numpy as np
import pytest

from springtide_trainer.tasks.metrics.classification import value
from springtide_trainer.tasks.metrics.statistic import EncodedRows
from springtide_trainer.tasks.metrics.trivial_baseline import trivial_baseline


def rows(labels: int) -> EncodedRows:
    random = np.random.default_rng(1)
    label = np.minimum(random.geometric(0.5, 120) - 1, labels - 1)
    group = np.sort(random.integers(0, 25, 120))
    group = np.unique(group, return_inverse=True)[1]
    return EncodedRows(label, np.arange(120), group)


@pytest.mark.parametrize("labels", [2, 4])
@pytest.mark.parametrize("metric", ["auc", "pr_auc", "ndcg@3"])
def test_the_score_of_a_ranking_metric_is_the_mean_of_random_orders(metric, labels) -> None:
    given, random = rows(labels), np.random.default_rng(2)
    found = [value(metric, given, random.random((120, labels))) for _ in range(400)]
    error = np.std(found) / np.sqrt(len(found))
    assert trivial_baseline(metric, given, labels) == pytest.approx(np.mean(found), abs=4 * error)


@pytest.mark.parametrize("labels", [2, 4])
def test_the_best_constant_prediction_is_the_label_frequencies(labels) -> None:
    given = rows(labels)
    shares = np.bincount(given.label, minlength=labels) / 120
    constant = np.tile(shares, (120, 1))
    for metric in ("log_loss", "accuracy"):
        assert trivial_baseline(metric, given, labels) == pytest.approx(
            value(metric, given, constant)
        )
    assert trivial_baseline("macro_f1", given, labels) >= value("macro_f1", given, constant)


def test_calibration_has_no_trivial_baseline() -> None:
    assert np.isnan(trivial_baseline("ece", rows(2), 2))


def test_without_rows_the_score_is_undefined() -> None:
    nothing = np.empty(0, dtype=int)
    assert np.isnan(trivial_baseline("auc", EncodedRows(nothing, nothing), 2))
