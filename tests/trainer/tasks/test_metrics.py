"""Every metric equals scikit-learn's or a manual calculation; undefined metrics are NaN."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.metrics.classification import BINS, statistic, value
from springtide_trainer.tasks.metrics.statistic import EncodedRows

ALL = ["auc", "pr_auc", "log_loss", "accuracy", "macro_f1", "ece", "ndcg@10"]


def some(
    rows: int, labels: int, *, seed: int = 0, decimals: int = 2
) -> tuple[EncodedRows, np.ndarray]:
    """Scores that are weakly correlated with the labels, rounded so that some are equal."""
    random = np.random.default_rng(seed)
    label = random.integers(0, labels, rows)
    logits = random.normal(size=(rows, labels)).round(decimals)
    logits[np.arange(rows), label] += 0.5
    odds = np.exp(logits)
    entity = np.unique(random.integers(0, max(rows // 4, 1), rows), return_inverse=True)[1]
    group = np.sort(np.unique(random.integers(0, max(rows // 5, 1), rows), return_inverse=True)[1])
    return EncodedRows(label, entity, group), odds / odds.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("decimals", [1, 6])
def test_two_labels_score_as_in_scikit_learn(seed, decimals) -> None:
    rows, scores = some(200, 2, seed=seed, decimals=decimals)
    predicted = scores.argmax(axis=1)
    expected = {
        "auc": sklearn.roc_auc_score(rows.label, scores[:, 1]),
        "pr_auc": sklearn.average_precision_score(rows.label, scores[:, 1]),
        "log_loss": sklearn.log_loss(rows.label, scores, labels=[0, 1]),
        "accuracy": sklearn.accuracy_score(rows.label, predicted),
        "macro_f1": sklearn.f1_score(rows.label, predicted, average="macro"),
    }
    assert {name: value(name, rows, scores) for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_many_labels_score_as_in_scikit_learn(seed) -> None:
    rows, scores = some(300, 5, seed=seed)
    truth = np.eye(5)[rows.label]
    expected = {
        "auc": sklearn.roc_auc_score(rows.label, scores, multi_class="ovr", average="macro"),
        "pr_auc": sklearn.average_precision_score(truth, scores, average="macro"),
        "log_loss": sklearn.log_loss(rows.label, scores, labels=range(5)),
        "macro_f1": sklearn.f1_score(rows.label, scores.argmax(axis=1), average="macro"),
    }
    assert {name: value(name, rows, scores) for name in expected} == pytest.approx(expected)


def test_groups_score_as_in_scikit_learn_if_no_scores_are_equal() -> None:
    rows, scores = some(400, 2, decimals=9)
    assert rows.group is not None
    expected = []
    for group in range(rows.group.max() + 1):
        mine = rows.group == group
        if rows.label[mine].any() and mine.sum() > 1:
            expected.append(sklearn.ndcg_score([rows.label[mine]], [scores[mine, 1]], k=3))
        elif rows.label[mine].any():
            expected.append(1.0)
    assert value("ndcg@3", rows, scores) == pytest.approx(np.mean(expected))


def test_gain_is_linear_in_the_index_of_the_label() -> None:
    one_list = EncodedRows(np.array([0, 2, 1]), np.arange(3), np.zeros(3, dtype=int))
    scores = np.array([[0.1, 0.1, 0.8], [0.2, 0.3, 0.5], [0.8, 0.1, 0.1]])
    found = (2 / np.log2(3) + 1 / np.log2(4)) / (2 + 1 / np.log2(3))
    assert value("ndcg@10", one_list, scores) == pytest.approx(found)


def test_ties_are_broken_independently_of_labels() -> None:
    lists, length = 2000, 4
    label = np.tile([1, 0, 0, 0], lists)
    rows = EncodedRows(label, np.arange(lists * length), np.repeat(np.arange(lists), length))
    same = np.full((lists * length, 2), 0.5)
    by_chance = np.mean(1 / np.log2(np.arange(length) + 2))
    assert value("ndcg@10", rows, same) == pytest.approx(by_chance, abs=0.01)
    assert value("ndcg@10", rows, same) == value("ndcg@10", rows, same)


def test_groups_without_a_relevant_row_do_not_count() -> None:
    rows = EncodedRows(np.array([0, 1, 0, 0]), np.arange(4), np.array([0, 0, 1, 1]))
    scores = np.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5], [0.4, 0.6]])
    assert value("ndcg@2", rows, scores) == 1.0


def test_calibration_error_is_the_mean_gap_over_equal_mass_bins() -> None:
    random = np.random.default_rng(3)
    chance = random.random(BINS * 20)
    label = (random.random(len(chance)) < chance).astype(int)
    order = np.argsort(chance)
    bins = np.array_split(order, BINS)
    expected = np.mean([abs(chance[each].mean() - label[each].mean()) for each in bins])
    rows = EncodedRows(label, np.arange(len(label)))
    assert value("ece", rows, np.stack([1 - chance, chance], axis=1)) == pytest.approx(expected)


def test_calibration_of_many_labels_uses_the_predicted_label() -> None:
    rows = EncodedRows(np.array([0, 0, 0, 1]), np.arange(4))
    sure = np.tile([0.7, 0.2, 0.1], (4, 1))
    assert value("ece", rows, sure) == pytest.approx(0.05)


@pytest.mark.survives(
    "Model",
    "scores that are NaN or missing",
    "inconclusive, never a pass",
)
@pytest.mark.parametrize("metric", ALL)
def test_nan_or_missing_scores_give_nan(metric) -> None:
    rows, scores = some(20, 2)
    scores[3, 0] = np.nan
    assert np.isnan(value(metric, rows, scores))
    nothing = EncodedRows(np.array([], dtype=int), np.array([], dtype=int), np.array([], dtype=int))
    assert np.isnan(value(metric, nothing, np.empty((0, 2))))


@pytest.mark.survives(
    "Data",
    "a holdout with one class only",
    "AUC and NDCG are undefined: inconclusive, never a pass",
)
def test_auc_and_average_precision_of_one_class_are_undefined() -> None:
    rows = EncodedRows(np.zeros(5, dtype=int), np.arange(5), np.zeros(5, dtype=int))
    scores = np.tile([0.6, 0.4], (5, 1))
    assert [np.isnan(value(metric, rows, scores)) for metric in ALL] == [
        True, True, False, False, False, False, True,
    ]  # fmt: skip
    assert np.isnan(value("ndcg@5", EncodedRows(rows.label, rows.entity), scores))


def test_labels_that_do_not_occur_are_not_averaged() -> None:
    rows, scores = some(60, 3)
    kept = rows.label != 2
    fewer, scores = rows.only(kept), scores[kept]
    expected = [sklearn.roc_auc_score(fewer.label == label, scores[:, label]) for label in (0, 1)]
    assert value("auc", fewer, scores) == pytest.approx(np.mean(expected))


def test_positives_are_counted_for_the_second_or_the_rarest_label() -> None:
    assert Classification(["no", "yes"]).positives(Counter(no=1, yes=3)) == 3
    assert Classification(["a", "b", "c"]).positives(Counter(a=1, b=2, c=2)) == 1
    assert Classification(["a", "b", "c"]).positives(Counter(a=1, b=1)) == 0


@pytest.mark.parametrize("metric", ALL)
@given(seed=st.integers(0, 10_000), labels=st.integers(2, 4))
def test_a_weight_equals_repeated_rows(metric, seed, labels) -> None:
    rows, scores = some(40, labels, seed=seed, decimals=9)
    times = np.random.default_rng(seed).integers(0, 3, rows.entities)
    repeated = np.repeat(np.arange(40), times[rows.entity])
    if metric == "ece":  # bins are those of all rows: equal only where every row counts alike
        times[:] = 2
        repeated = np.repeat(np.arange(40), 2)
    weighted = statistic(metric, rows, scores)(times[None].astype(np.int32))[0]
    if metric == "ndcg@10":
        # A group belongs to the entity of its first row, so every group has one entity here.
        assert rows.group is not None
        own = EncodedRows(rows.label, rows.group, rows.group)
        times = np.random.default_rng(seed).integers(0, 3, own.entities).astype(np.int32)
        weighted = statistic(metric, own, scores)(times[None])[0]
        each = [
            value(metric, own.only(own.group == g), scores[own.group == g])
            for g in range(own.entities)
        ]
        known = ~np.isnan(each) & (times > 0)
        plain = np.average(np.array(each)[known], weights=times[known]) if known.any() else np.nan
    elif not len(repeated):
        plain = np.nan
    else:
        again = EncodedRows(rows.label[repeated], np.arange(len(repeated)))
        plain = value(metric, again, scores[repeated])
    assert weighted == pytest.approx(plain, nan_ok=True)
