"""What answers without a model score, against many random ones."""

import numpy as np
import pytest

from springtide_trainer.evaluation.metrics import EncodedRows, value
from springtide_trainer.evaluation.trivial_baseline import trivial_baseline


def rows(labels: int) -> EncodedRows:
    random = np.random.default_rng(1)
    label = np.minimum(random.geometric(0.5, 120) - 1, labels - 1)
    group = np.sort(random.integers(0, 25, 120))
    group = np.unique(group, return_inverse=True)[1]
    return EncodedRows(label, np.arange(120), group)


@pytest.mark.parametrize("labels", [2, 4])
@pytest.mark.parametrize("metric", ["auc", "pr_auc", "ndcg@3"])
def test_a_score_of_an_order_is_the_mean_of_random_orders(metric, labels) -> None:
    given, random = rows(labels), np.random.default_rng(2)
    found = [value(metric, given, random.random((120, labels))) for _ in range(400)]
    error = np.std(found) / np.sqrt(len(found))
    assert trivial_baseline(metric, given, labels) == pytest.approx(np.mean(found), abs=4 * error)


@pytest.mark.parametrize("labels", [2, 4])
def test_the_best_constant_answer_is_the_shares_of_the_labels(labels) -> None:
    given = rows(labels)
    shares = np.bincount(given.label, minlength=labels) / 120
    constant = np.tile(shares, (120, 1))
    for metric in ("log_loss", "accuracy"):
        assert trivial_baseline(metric, given, labels) == pytest.approx(
            value(metric, given, constant)
        )
    assert trivial_baseline("macro_f1", given, labels) >= value("macro_f1", given, constant)


def test_a_constant_is_calibrated_so_that_calibration_has_no_floor() -> None:
    assert np.isnan(trivial_baseline("ece", rows(2), 2))


def test_no_rows_have_no_score() -> None:
    nothing = np.empty(0, dtype=int)
    assert np.isnan(trivial_baseline("auc", EncodedRows(nothing, nothing), 2))
