"""What classification defines for the data, the training, the evaluation and the server."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from springtide_api.update.gate import Metric
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.errors import Refused
from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.metrics.statistic import EncodedRows, whole
from springtide_trainer.tasks.table import task_of
from springtide_trainer.tasks.task import Batch

TASK = Classification(["no", "maybe", "yes"])


def column(*labels: str | None) -> pa.ChunkedArray:
    return pa.chunked_array([list(labels)], pa.string())


def test_labels_are_encoded_as_their_index():
    encoded = TASK.encode(column("yes", "no", "yes"), "training rows")
    assert (encoded.tolist(), encoded.dtype) == ([2, 0, 2], np.int64)
    assert TASK.collate(encoded).tolist() == [2, 0, 2]


def test_a_label_that_the_model_does_not_have_is_refused_with_the_count_and_the_labels():
    with pytest.raises(
        Refused, match=r"2 of 3 training rows .* not have, such as 'odd'; it has no, maybe, yes; "
    ) as refused:
        TASK.encode(column("odd", "no", "odd"), "training rows")
    assert refused.value.failure.field == "spec.model.labels"


def test_training_rows_of_one_label_are_too_few():
    assert TASK.shortage(TASK.count(column("no", "yes"))) is None
    message = TASK.shortage(TASK.count(column("no", "no")))
    assert message is not None
    assert message.startswith("all 2 training rows have label 'no', at least 2 labels are needed")


def test_rows_are_counted_by_label_in_order_of_occurrence():
    counted = TASK.count(column("yes", "no", "yes"))
    assert (list(counted.items()), counted) == ([("yes", 2), ("no", 1)], Counter(yes=2, no=1))


def test_classification_without_label_names_is_refused():
    with pytest.raises(Refused, match=r"needs at least 2 label names; set model.labels"):
        task_of(Preprocess(max_length=8))


def test_a_task_that_this_version_does_not_have_is_refused_by_name():
    with pytest.raises(Refused, match=r"task 'Clustering' is not one of Classification") as refused:
        task_of(Preprocess(max_length=8, task="Clustering"))
    assert refused.value.failure.field == "spec.model.task"


class Echo(nn.Module):
    """A model whose logits are its inputs."""

    def forward(self, x: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=x)


def test_the_loss_is_the_negative_log_likelihood_weighted_by_row():
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])
    chances = TASK.predict(logits)
    assert chances.sum(dim=1).tolist() == pytest.approx([1.0, 1.0])
    batch = Batch({"x": logits}, torch.tensor([2, 1]), torch.tensor([0.25, 0.75]))
    expected = -0.25 * chances[0, 2].log() - 0.75 * chances[1, 1].log()
    assert TASK.objective(Echo(), batch).item() == pytest.approx(expected.item())


def test_every_metric_of_classification_is_one_of_the_api_and_has_a_value():
    rows = EncodedRows(np.array([0, 1, 0, 1]), np.arange(4), np.array([0, 0, 1, 1]))
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.3, 0.7]])
    task = Classification(["no", "yes"])
    for metric in (*task.metrics, *task.group_metrics):
        TypeAdapter(Metric).validate_python(metric)
        assert np.isfinite(whole(task.statistic(metric, rows, scores), rows)), metric


def test_the_served_tensors_are_the_probabilities_and_the_most_probable_label():
    scores = np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]], dtype=np.float32)
    probabilities, label = task_of(Preprocess(max_length=8, labels=TASK.outputs)).tensors
    assert (probabilities.name, probabilities.datatype, probabilities.shape) == (
        "probabilities", "FP32", (3,),
    )  # fmt: skip
    assert probabilities.values(scores) is scores
    assert (label.name, label.datatype, label.shape) == ("label", "BYTES", ())
    assert label.values(scores).tolist() == ["maybe", "no"]


def test_a_probe_imports_no_library_of_training_or_evaluation():
    heavy = "{'torch', 'transformers', 'scipy', 'sklearn'}"
    code = f"import sys, springtide_trainer.stages.probe; print({heavy} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
