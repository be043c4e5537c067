"""What regression defines for the data, the training, the evaluation and the server."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import nn

from springtide_api.contract import ExitCode
from springtide_api.update.gate import Metric
from springtide_api.update.task import EARLY_STOPPING_METRIC, RegressionOptions
from springtide_judging.bounds import WITHOUT_POSITIVES
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.errors import Refused
from springtide_trainer.tasks.language.masked_lm import MaskedLM
from springtide_trainer.tasks.metrics.statistic import EncodedRows, whole
from springtide_trainer.tasks.regression import Regression
from springtide_trainer.tasks.table import TASKS, task_of
from springtide_trainer.tasks.task import Batch

UNSCALED = Regression(RegressionOptions())
SCALED = Regression(RegressionOptions(location="100", spread="20"))
HUBER = RegressionOptions.model_validate(
    {"loss": {"type": "Huber", "huber": {"delta": "0.5"}}, "location": "0", "spread": "1"}
)


def column(*labels: str | None) -> pa.ChunkedArray:
    return pa.chunked_array([list(labels)], pa.string())


@given(st.lists(st.floats(-1e30, 1e30), min_size=1))
def test_a_number_is_frozen_as_it_was_written(numbers):
    found = UNSCALED.check(column(*map(repr, numbers)), "rows")
    assert found.type == UNSCALED.label_type == pa.float64()
    assert found.to_pylist() == numbers
    assert not np.signbit(found.to_numpy()[found.to_numpy() == 0]).any()


def test_equal_numbers_are_frozen_alike():
    found = UNSCALED.check(column("1.50", "1.5", "15e-1", "2.", ".5", "007", "-0"), "rows")
    assert found.to_pylist() == [1.5, 1.5, 1.5, 2.0, 0.5, 7.0, 0.0]


@pytest.mark.survives(
    "Data",
    "labels of Regression that are no finite number",
    "refused with their count and the most frequent ones",
)
def test_labels_that_are_no_number_are_refused_with_their_count():
    labels = column("1", "1e400", "inf", "NaN", "12,50", "0x10", " 1", "+1", "12,50", "1e31")
    with pytest.raises(Refused) as refused:
        UNSCALED.check(labels, "train rows of 2026-01")
    assert refused.value.failure.reason == "InvalidLabel"
    assert refused.value.failure.message.startswith(
        "9 of 10 train rows of 2026-01 have a label that is not a number from -1e+30 to 1e+30: "
        "'12,50' (2), "
    )


def test_a_part_without_rows_is_frozen_empty():
    for empty in (pa.chunked_array([], pa.string()), column()):
        found = UNSCALED.check(empty, "rows")
        assert (len(found), found.type) == (0, pa.float64())
        assert UNSCALED.encode(found, "rows").tolist() == []


@pytest.mark.parametrize("missing", [None, ""])
def test_a_missing_label_is_refused(missing):
    with pytest.raises(Refused, match=r"1 of 2 rows have no label") as refused:
        UNSCALED.check(column("1", missing), "rows")
    assert refused.value.failure.reason == "MissingLabel"


def test_rows_are_counted_by_lowest_and_highest_label_and_all_count_for_a_rule():
    counts = UNSCALED.count(pa.chunked_array([[3.0, 1.0, 2.0, 3.0, 2.5]]))
    assert dict(counts) == {"1": 1, "1 to 3": 2, "3": 2}
    assert UNSCALED.positives(counts) == 5
    assert UNSCALED.count(pa.chunked_array([[]], pa.float64())) == {}
    assert UNSCALED.shortage(counts) is None
    alike = UNSCALED.count(pa.chunked_array([[2.0, 2.0]]))
    assert "all 2 training rows have label 2, at least 2" in (UNSCALED.shortage(alike) or "")


def test_labels_that_differ_after_the_sixth_digit_are_different():
    counts = UNSCALED.count(pa.chunked_array([[1_000_000.1, 1_000_000.2, 1_000_000.1]]))
    assert dict(counts) == {"1000000.1": 2, "1000000.2": 1}
    assert UNSCALED.shortage(counts) is None


@pytest.mark.parametrize("written", ["1e400", "-1e400", "1e31", "9" * 400, "1e-400", "1e99999999"])
def test_a_number_beyond_the_range_is_refused_or_is_0(written):
    if "-400" in written:
        assert UNSCALED.check(column(written), "rows").to_pylist() == [0.0]
        return
    with pytest.raises(Refused, match="1 of 1 rows have a label that is not a number from -1e"):
        UNSCALED.check(column(written), "rows")


def test_rows_with_labels_of_another_task_are_refused():
    with pytest.raises(Refused, match=r"labels of type string, and Regression needs numbers"):
        UNSCALED.encode(column("1"), "training rows")


class Echo(nn.Module):
    """A model whose logits are its inputs."""

    def forward(self, x: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=x)


def test_labels_are_scaled_for_the_model_and_predictions_are_in_their_unit():
    labels = np.array([100.0, 140.0, 90.0])
    assert SCALED.collate(labels).tolist() == [0.0, 2.0, -0.5]
    assert SCALED.predict(SCALED.collate(labels)[:, None]).tolist() == [[100.0], [140.0], [90.0]]


def test_the_squared_loss_of_scaled_labels_is_weighted_by_row():
    batch = Batch(
        {"x": torch.tensor([[0.0], [1.0]])},
        SCALED.collate(np.array([140.0, 130.0])),
        torch.tensor([0.25, 0.75]),
    )
    assert SCALED.objective(Echo(), batch).item() == pytest.approx(0.25 * 4 + 0.75 * 0.25)


def test_the_huber_loss_is_squared_for_small_errors_and_linear_for_large_ones():
    task = Regression(HUBER)
    batch = Batch({"x": torch.zeros(2, 1)}, task.collate(np.array([0.4, -3.0])), torch.ones(2))
    expected = 0.5 * 0.4**2 + 0.5 * (3.0 - 0.5 * 0.5)
    assert task.objective(Echo(), batch).item() == pytest.approx(expected)


def test_the_first_rows_fix_location_and_spread_and_every_later_generation_keeps_them():
    parent = Preprocess(max_length=8, task="Regression", regression=RegressionOptions())
    first = UNSCALED.continued(parent, np.array([10.0, 20.0, 30.0, 40.0]))
    assert (first.location, first.spread) == (25.0, pytest.approx(np.sqrt(125), rel=1e-8))
    artifact = parent.model_copy(update=first.kept)
    later = UNSCALED.continued(artifact, np.array([1000.0, 2000.0]))
    assert later == first
    assert task_of(artifact) == first


def test_declared_location_and_spread_are_not_computed():
    parent = Preprocess(max_length=8, task="Regression", regression=SCALED.options)
    assert UNSCALED.continued(parent, np.array([1.0, 1.0])) == SCALED
    seeded = Preprocess(max_length=8, task="Regression", regression=RegressionOptions())
    assert SCALED.continued(seeded, np.array([1.0, 1.0])) == SCALED


@pytest.mark.parametrize("value", [0.0, 5.0, 1e30, 1e-30])
def test_rows_of_one_label_have_no_spread(value):
    parent = Preprocess(max_length=8, task="Regression")
    with pytest.raises(Refused, match=r"the labels of all 3 training rows are") as refused:
        UNSCALED.continued(parent, np.full(3, value))
    assert refused.value.code == ExitCode.TOO_LITTLE_DATA


@given(st.lists(st.floats(-1e30, 1e30), min_size=2, max_size=20))
def test_a_computed_scale_is_a_decimal_that_inverts_to_the_labels(labels):
    parent = Preprocess(max_length=8, task="Regression")
    try:
        task = UNSCALED.continued(parent, np.array(labels))
    except Refused:
        return
    RegressionOptions.model_validate(task.options.plain())
    back = task.predict(task.collate(np.array(labels))[:, None])[:, 0].double().numpy()
    reach = np.abs(labels).max()
    np.testing.assert_allclose(back, labels, atol=1e-5 * reach)


def test_every_metric_of_regression_is_one_of_the_api_and_has_a_value():
    rows = EncodedRows(np.array([1.0, 0.0, 3.0, 4.0]), np.arange(4))
    for metric in SCALED.metrics:
        TypeAdapter(Metric).validate_python(metric)
        found = SCALED.statistic(metric, rows, np.array([[1.0], [2.0], [2.5], [4.5]]))
        assert np.isfinite(whole(found, rows)), metric
    assert {*SCALED.metrics, *MaskedLM.metrics} == WITHOUT_POSITIVES, "perplexity is CausalLM's too"


def test_every_task_has_a_metric_of_early_stopping():
    assert EARLY_STOPPING_METRIC.keys() == TASKS.keys()


def test_the_served_tensor_is_the_predicted_value_of_each_row():
    (value,) = SCALED.tensors
    assert (value.name, value.datatype, value.shape) == ("value", "FP32", ())
    assert value.values(np.array([[3.5], [4.5]], dtype=np.float32)).tolist() == [3.5, 4.5]
