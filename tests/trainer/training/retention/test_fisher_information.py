"""The Fisher information: computed by hand, carried, committed, and refused where it is wrong."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from springtide_api.contract import ArtifactRef
from springtide_trainer.errors import Refused
from springtide_trainer.storage import Home, uri_of
from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.multi_label import MultiLabel
from springtide_trainer.tasks.ranking import Ranking
from springtide_trainer.tasks.regression import Regression, RegressionOptions
from springtide_trainer.tasks.task import Batch
from springtide_trainer.training.retention import fisher_information
from springtide_trainer.training.retention.likelihoods import NEGATIVE_LOG_LIKELIHOODS
from springtide_trainer.training.rows.batches import Examples
from springtide_trainer.training.rows.training_rows import TrainingRows
from springtide_trainer.training.rows.units import Units

BASE = "sha256:" + 64 * "a"
OTHER = "sha256:" + 64 * "b"


class Given:
    """Rows whose input is a vector."""

    def __init__(self, vectors: torch.Tensor) -> None:
        self._vectors = vectors
        self.lengths = np.ones(len(vectors), np.int64)

    def batch(self, rows: Any) -> dict[str, torch.Tensor]:
        return {"x": self._vectors[torch.from_numpy(np.asarray(rows))]}


class Head(nn.Module):
    """A linear layer as a model."""

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(width, outputs)
        self.device = torch.device("cpu")

    def forward(self, x: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.layer(x))


def rows_of(vectors: torch.Tensor, weights: list[float], groups: list[int] | None = None) -> Any:
    group = None if groups is None else np.array(groups)
    every = np.arange(len(vectors))
    units = Units.of_rows(every) if group is None else Units.of_groups(every, group)
    labels = np.zeros(len(vectors), np.int64)
    examples = Examples(Given(vectors), labels, np.array(weights, np.float32), group)
    return TrainingRows(examples, units, np.empty(0, np.int64), first_replayed=len(vectors))


def average(model: Any, rows: Any, task: Any, draws: int = 1000) -> dict[str, torch.Tensor]:
    """Average over seeds: the drawn labels then have the frequencies of their probabilities."""
    totals = [
        fisher_information.of_rows(model, rows, task, count=99, seed=(seed,))
        for seed in range(draws)
    ]
    return {name: torch.stack([each[name] for each in totals]).mean(0) for name in totals[0]}


def test_that_of_a_linear_classifier_is_p_times_one_minus_p_times_the_square_of_its_input():
    """The textbook's diagonal of softmax regression, averaged over rows by their weights."""
    torch.manual_seed(0)
    model = Head(2, 3)
    vectors = torch.tensor([[1.0, -2.0], [0.5, 0.0]])
    task = Classification(["a", "b", "c"])
    found = average(model, rows_of(vectors, [1.0, 3.0]), task)

    p = model.layer(vectors).softmax(-1).detach()
    spread = torch.tensor([0.25, 0.75])[:, None] * p * (1 - p)
    expected = torch.einsum("rl,rw->lw", spread, vectors.square())
    torch.testing.assert_close(found["layer.weight"], expected, atol=0.03, rtol=0.1)
    torch.testing.assert_close(found["layer.bias"], spread.sum(0), atol=0.03, rtol=0.1)


def test_that_of_several_labels_is_that_of_each():
    torch.manual_seed(0)
    model, vectors = Head(2, 2), torch.tensor([[1.0, -2.0]])
    found = average(model, rows_of(vectors, [1.0]), MultiLabel(["a", "b"]))
    p = model.layer(vectors).sigmoid().detach()[0]
    expected = (p * (1 - p))[:, None] * vectors.square()
    torch.testing.assert_close(found["layer.weight"], expected, atol=0.03, rtol=0.1)


def test_that_of_a_number_is_the_square_of_the_gradient_of_its_output():
    model, vectors = Head(2, 1), torch.tensor([[1.0, -2.0], [3.0, 0.5]])
    task = Regression(RegressionOptions())
    found = fisher_information.of_rows(
        model, rows_of(vectors, [1.0, 1.0]), task, count=9, seed=(1,)
    )
    torch.testing.assert_close(found["layer.weight"], vectors.square().mean(0, keepdim=True))
    assert found["layer.bias"].tolist() == [1.0]


def test_that_of_a_ranking_is_that_of_the_row_that_is_first_in_its_group():
    torch.manual_seed(0)
    model, vectors = Head(2, 1), torch.tensor([[1.0, -2.0], [3.0, 0.5], [0.0, 1.0], [7.0, 7.0]])
    task = Ranking({"no": 0.0, "yes": 1.0}, "Listwise", 9)
    found = average(model, rows_of(vectors, [1.0] * 4, [0, 0, 0, 1]), task)

    p = model.layer(vectors[:3]).squeeze(-1).softmax(0).detach()
    mean = p @ vectors[:3]
    variance = p @ (vectors[:3] - mean).square()
    torch.testing.assert_close(found["layer.weight"][0], variance / 2, atol=0.05, rtol=0.1)
    assert found["layer.bias"].item() == pytest.approx(0, abs=1e-10)  # it moves all scores alike


def test_it_is_of_at_most_count_rows_and_a_function_of_its_seed():
    model, vectors = Head(2, 2), torch.randn(50, 2, generator=torch.Generator().manual_seed(1))
    rows, task = rows_of(vectors, [1.0] * 50), Classification(["a", "b"])

    def found(count: int, seed: int) -> torch.Tensor:
        made = fisher_information.of_rows(model, rows, task, count=count, seed=(seed, 7))
        return made["layer.weight"]

    assert torch.equal(found(5, 1), found(5, 1))
    assert not torch.equal(found(5, 1), found(5, 2))
    assert not torch.equal(found(5, 1), found(50, 1))
    assert model.layer.weight.grad is None


def test_every_task_with_a_divergence_has_a_likelihood():
    from springtide_trainer.training.retention.divergences import DIVERGENCES

    assert NEGATIVE_LOG_LIKELIHOODS.keys() == DIVERGENCES.keys()


def test_the_parents_values_count_gamma_and_appended_outputs_have_none():
    before = {"head": torch.tensor([[4.0], [2.0]]), "frozen now": torch.tensor([10.0])}
    found = {"head": torch.tensor([[1.0], [1.0], [1.0]]), "trained now": torch.tensor([5.0])}
    made = fisher_information.carried(before, found, gamma=0.5)
    assert made["head"].tolist() == [[3.0], [2.0], [1.0]]
    assert made["frozen now"].tolist() == [5.0]
    assert made["trained now"].tolist() == [5.0]
    assert found["head"].tolist() == [[1.0], [1.0], [1.0]]


@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (3,), ()])
def test_values_of_another_shape_are_refused(shape):
    with pytest.raises(Refused, match="head has shape") as refused:
        fisher_information.carried(
            {"head": torch.ones(2, 1)}, {"head": torch.ones(shape)}, gamma=0.5
        )
    assert refused.value.failure.reason == "FisherMismatch"


@pytest.fixture
def committed(tmp_path) -> tuple[Home, ArtifactRef]:
    home = Home(tmp_path / "models")
    values = {"layer.bias": torch.tensor([1.0, 2.0])}
    digest = fisher_information.commit(values, of=BASE, home=home, folder=tmp_path / "scratch")
    return home, ArtifactRef(uri=uri_of(home.artifact(digest)), digest=digest)


def test_equal_values_of_equal_weights_are_committed_once(committed, tmp_path):
    home, given = committed
    values = {"layer.bias": torch.tensor([1.0, 2.0])}
    again = fisher_information.commit(values, of=BASE, home=home, folder=tmp_path / "again")
    other = fisher_information.commit(values, of=OTHER, home=home, folder=tmp_path / "other")
    assert again == given.digest != other
    assert fisher_information.read(given, of=BASE)["layer.bias"].tolist() == [1.0, 2.0]


@pytest.mark.survives(
    "Model",
    "the Fisher information of the parent is damaged, missing, or of other weights",
    "the training is refused before its first step, and the message says how to go on without",
)
@pytest.mark.parametrize("how", ["damaged", "missing", "other weights", "no values"])
def test_damaged_or_foreign_values_are_refused(committed, tmp_path, how):
    home, given = committed
    of, reason = BASE, "DigestMismatch"
    match how:
        case "damaged":
            (home.artifact(given.digest) / fisher_information.VALUES).write_bytes(b"0")
        case "missing":
            shutil.rmtree(home.artifact(given.digest))
        case "other weights":
            of, reason = OTHER, "FisherMismatch"
        case "no values":
            from springtide_trainer.artifact import manifest

            (tmp_path / "empty").mkdir()
            (tmp_path / "empty" / "config.json").write_text("{}")
            made, reason = manifest.commit(tmp_path / "empty", home), "FisherMismatch"
            given = ArtifactRef(uri=made.uri, digest=made.digest)
    with pytest.raises(Refused, match=r"remove training\.retention\.ewc") as refused:
        fisher_information.read(given, of=of)
    assert refused.value.failure.reason == reason
    assert refused.value.failure.field == "spec.training.retention.ewc"


def test_a_batch_of_a_row_is_what_a_likelihood_takes():
    """The likelihoods are those of one unit: their mean over draws is the entropy of its labels."""
    logits = torch.tensor([[0.3, -1.0, 2.0]])
    drawn = torch.Generator().manual_seed(0)
    values = [NEGATIVE_LOG_LIKELIHOODS[Classification](logits, drawn).item() for _ in range(4000)]
    p = logits.softmax(-1)
    assert np.mean(values) == pytest.approx(-(p * p.log()).sum().item(), abs=0.03)
    assert Batch({"x": logits}, torch.zeros(1), torch.ones(1)).taught is None
