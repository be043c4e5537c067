"""Rows with any number of labels: read, frozen, learnt, evaluated and served."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import TypeAdapter
from sklearn import metrics as sklearn
from torch import nn
from torch.nn import functional

from springtide_api.update.gate import Metric
from springtide_api.update.task import ClassificationOptions
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.errors import Refused
from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.metrics.statistic import EncodedRows, whole
from springtide_trainer.tasks.multi_label import MultiLabel
from springtide_trainer.tasks.table import task_of
from springtide_trainer.tasks.task import Batch

TASK = MultiLabel(["sport", "music", "travel"])


def column(*labels: str | None) -> pa.ChunkedArray:
    return pa.chunked_array([list(labels)], pa.string())


def some(rows: int = 200, labels: int = 4, seed: int = 0) -> tuple[EncodedRows, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = (random.random((rows, labels)) < np.linspace(0.2, 0.6, labels)).astype(np.int8)
    logits = random.normal(size=truth.shape) + truth
    entity = np.unique(random.integers(0, rows // 4, rows), return_inverse=True)[1]
    return EncodedRows(truth, entity), 1 / (1 + np.exp(-logits))


def test_joined_labels_and_json_arrays_are_frozen_alike():
    found = TASK.check(
        column("travel|sport", '["sport", "travel", "sport"]', " sport | travel ", "", "[]"), "rows"
    )
    assert found.to_pylist() == ["101", "101", "101", "000", "000"]
    assert TASK.count(found) == {"sport": 3, "travel": 3, "(none)": 2}
    assert TASK.positives(TASK.count(found)) == 0
    assert TASK.encode(found, "rows").tolist() == [[1, 0, 1]] * 3 + [[0, 0, 0]] * 2


def test_a_label_that_every_row_has_raises_no_trivial_baseline():
    """It cannot be ranked, so the metric leaves it out; else no bound could ask for enough."""
    rows, scores = some()
    truth = np.concatenate([rows.label, np.ones((len(rows.label), 1), np.int8)], axis=1)
    more = EncodedRows(truth, rows.entity)
    task, others = MultiLabel(["a", "b", "c", "d", "all"]), MultiLabel(["a", "b", "c", "d"])
    value = whole(task.statistic("pr_auc", more, np.pad(scores, [(0, 0), (0, 1)])), more)
    assert value == whole(others.statistic("pr_auc", rows, scores), rows)
    baseline = others.trivial_baseline("pr_auc", rows)
    assert task.trivial_baseline("pr_auc", more) == baseline < value
    assert np.isnan(task.trivial_baseline("pr_auc", EncodedRows(truth[:, 4:], rows.entity)))


def test_another_separator_is_used_as_declared():
    spec = Preprocess(
        max_length=8,
        labels=["a|b", "c"],
        classification=ClassificationOptions(multi_label=True, separator=", "),
    )
    assert task_of(spec).check(column("a|b, c"), "rows").to_pylist() == ["11"]


@pytest.mark.survives(
    "Data",
    "a row with several labels of which one is unknown, or whose list is no JSON",
    "refused with the count of rows and the unknown labels",
)
def test_a_label_that_is_not_known_is_refused_with_the_rows_that_have_it():
    labels = column("sport", "sport|art", "art|music|art", '["sport"', "sport,music")
    with pytest.raises(Refused) as refused:
        TASK.check(labels, "train rows")
    message = refused.value.failure.message
    assert message.startswith(
        "4 of 5 train rows have a label that is not one of the 3 model.labels: 'art' (2), "
    )
    assert message.endswith("or join labels by '|'")
    with pytest.raises(Refused, match=r"1 of 2 train rows have no label \(null\)"):
        TASK.check(column("sport", None), "train rows")


def test_rows_without_any_label_are_too_few_to_train_on():
    assert TASK.shortage(TASK.count(TASK.check(column("sport", ""), "rows"))) is None
    assert "all 2 training rows have none" in (
        TASK.shortage(TASK.count(TASK.check(column("", ""), "rows"))) or ""
    )


class Echo(nn.Module):
    """A model whose logits are its inputs."""

    def forward(self, x: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=x)


def test_the_loss_is_binary_cross_entropy_weighted_by_row():
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 3.0, -2.0]])
    truth = torch.tensor([[1, 0, 1], [0, 1, 0]], dtype=torch.int8)
    batch = Batch({"x": logits}, truth, torch.tensor([0.25, 0.75]))
    rows = functional.binary_cross_entropy_with_logits(logits, truth.float(), reduction="none")
    expected = (rows.mean(dim=1) * torch.tensor([0.25, 0.75])).sum()
    assert TASK.objective(Echo(), batch).item() == pytest.approx(expected.item())


def test_a_label_appended_later_has_no_loss_in_older_rows_and_others_do_not_count_more():
    older = TASK.encode(column("10"), "rows")
    assert older.tolist() == [[1, 0, -1]]
    logits = torch.tensor([[2.0, -1.0, 9.0]], requires_grad=True)
    loss = TASK.objective(Echo(), Batch({"x": logits}, TASK.collate(older), torch.ones(1)))
    loss.backward()
    expected = -(torch.tensor(2.0).sigmoid().log() + torch.tensor(1.0).sigmoid().log()) / 3
    assert loss.item() == pytest.approx(expected.item())
    assert logits.grad is not None
    assert logits.grad[0, 2] == 0


@pytest.mark.parametrize("value", ["1111", "12"])
def test_rows_frozen_with_other_labels_are_refused(value):
    with pytest.raises(Refused, match=r"frozen with other labels than the model's 3"):
        TASK.encode(column(value), "rows")


def test_metrics_are_those_of_scikit_learn():
    rows, scores = some()
    predicted = scores >= 0.5
    expected = {
        "auc": sklearn.roc_auc_score(rows.label, scores, average="macro"),
        "pr_auc": sklearn.average_precision_score(rows.label, scores, average="macro"),
        "macro_f1": sklearn.f1_score(rows.label, predicted, average="macro"),
        "micro_f1": sklearn.f1_score(rows.label, predicted, average="micro"),
        "log_loss": sklearn.log_loss(rows.label.ravel(), scores.ravel()),
    }
    assert set(TASK.metrics) == expected.keys()
    for metric, value in expected.items():
        TypeAdapter(Metric).validate_python(metric)
        of = TASK.statistic(metric, rows, scores)
        assert whole(of, rows) == pytest.approx(value), metric
        assert whole(TASK.statistic(metric, rows, scores, once=True), rows) == whole(of, rows)


@pytest.mark.parametrize("metric", TASK.metrics)
def test_a_resample_has_the_value_of_the_repeated_rows(metric):
    rows, scores = some(60, seed=3)
    rows.label[:20, 3] = -1
    weights = np.random.default_rng(1).integers(0, 4, (3, rows.entities)).astype(np.int32)
    drawn = TASK.statistic(metric, rows, scores)(weights)
    for draw, got in zip(weights, drawn, strict=True):
        repeated = np.repeat(np.arange(60), draw[rows.entity])
        again = EncodedRows(rows.label[repeated], np.zeros(len(repeated), dtype=int))
        assert got == pytest.approx(whole(TASK.statistic(metric, again, scores[repeated]), again))


@pytest.mark.parametrize("metric", TASK.metrics)
def test_an_unknown_label_counts_in_no_metric(metric):
    rows, scores = some(80, seed=4)
    rows.label[:, 2] = -1
    others = [0, 1, 3]
    fewer = EncodedRows(rows.label[:, others], rows.entity)
    assert whole(TASK.statistic(metric, rows, scores), rows) == pytest.approx(
        whole(TASK.statistic(metric, fewer, scores[:, others]), fewer)
    )


@pytest.mark.parametrize("metric", ["log_loss", "macro_f1", "micro_f1"])
def test_no_constant_prediction_beats_the_trivial_baseline(metric):
    rows, _ = some(300, seed=5)
    best = TASK.trivial_baseline(metric, rows)
    random = np.random.default_rng(0)
    rates = (rows.label == 1).mean(axis=0)
    constants = [rates, *(random.random(4) for _ in range(40)), *np.eye(4), np.ones(4)]
    for constant in constants:
        scores = np.tile(np.clip(constant, 1e-6, 1 - 1e-6), (300, 1))
        value = whole(TASK.statistic(metric, rows, scores), rows)
        assert (value >= best - 1e-9) if metric == "log_loss" else (value <= best + 1e-9)


def test_undefined_metrics_are_nan():
    rows = EncodedRows(np.zeros((3, 2), dtype=np.int8), np.arange(3))
    scores = np.full((3, 2), 0.2)
    for metric in ("auc", "pr_auc", "macro_f1", "micro_f1"):
        assert np.isnan(whole(TASK.statistic(metric, rows, scores), rows)), metric
        assert np.isnan(TASK.trivial_baseline(metric, rows))


def test_a_comparison_uses_the_labels_of_the_incumbent_without_renormalizing():
    rows, scores = some(20, 3)
    kept, subset, reduced = TASK.over_incumbent(rows, scores, ["sport", "music"])
    assert kept.all()
    assert (subset.label == rows.label[:, :2]).all()
    assert (reduced == scores[:, :2]).all()
    with pytest.raises(Refused, match="lacks labels of the live model"):
        TASK.over_incumbent(rows, scores, ["art"])


def test_early_stopping_by_auc_needs_a_label_with_both_values():
    with pytest.raises(Refused, match="no label occurs in some and not in all of the 2"):
        TASK.check_validation("auc", np.array([[1, 0], [1, 0]]))
    TASK.check_validation("auc", np.array([[1, 0], [0, 0]]))
    TASK.check_validation("log_loss", np.array([[1, 0], [1, 0]]))


def test_the_server_returns_the_labels_of_at_least_one_half_as_json():
    probabilities, labels = TASK.tensors
    scores = np.array([[0.5, 0.4, 0.9], [0.1, 0.2, 0.3]], dtype=np.float32)
    assert probabilities.values(scores) is scores
    assert [json.loads(one) for one in labels.values(scores)] == [["sport", "travel"], []]
    assert (labels.name, labels.datatype, labels.shape) == ("labels", "BYTES", ())


def test_precision_and_recall_are_reported_by_label():
    rows, scores = some(100, 3)
    for name, one in zip(TASK.outputs, TASK.by_label(rows, scores), strict=True):
        at = TASK.outputs.index(name)
        truth, predicted = rows.label[:, at], scores[:, at] >= 0.5
        assert one == {
            "label": name,
            "rows": truth.sum(),
            "precision": pytest.approx(sklearn.precision_score(truth, predicted), abs=1e-6),
            "recall": pytest.approx(sklearn.recall_score(truth, predicted), abs=1e-6),
        }
    single = Classification(["no", "yes"])
    found = single.by_label(
        EncodedRows(np.array([0, 0, 1]), np.arange(3)), np.array([[0.9, 0.1]] * 3)
    )
    assert found == [
        {"label": "no", "rows": 2, "precision": pytest.approx(2 / 3, abs=1e-6), "recall": 1.0},
        {"label": "yes", "rows": 1, "precision": None, "recall": 0.0},
    ]
