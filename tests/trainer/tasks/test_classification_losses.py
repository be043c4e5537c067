"""The focal loss against its paper, and class weights against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_sample_weight
from torch import nn
from torch.nn import functional

from springtide_api.update.task import ClassificationOptions
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.classification_losses import balanced, focal
from springtide_trainer.tasks.multi_label import MultiLabel
from springtide_trainer.tasks.table import task_of
from springtide_trainer.tasks.task import Batch

FOCAL = {"type": "Focal", "focal": {"gamma": "2"}}


class Logits(nn.Module):
    """A model whose logits are its parameters."""

    def __init__(self, values: list[list[float]]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(values))

    def forward(self) -> Logits:
        return self


def task(**options: object) -> Classification:
    made = ClassificationOptions.model_validate(options)
    found = task_of(Preprocess(max_length=8, labels=["no", "maybe", "yes"], classification=made))
    assert isinstance(found, Classification)
    return found


@pytest.mark.parametrize(("probability", "times"), [(0.9, 100), (0.968, 1000)])
def test_easy_rows_count_as_much_less_as_the_paper_says(probability, times):
    """Lin et al. 2017, section 3.2, with gamma 2."""
    entropy = -torch.tensor(probability).log()
    assert (entropy / focal(entropy, 2.0)).item() == pytest.approx(times, rel=0.03)


@given(st.floats(-12, 12), st.floats(0.1, 5))
def test_the_gradient_of_two_labels_is_that_of_the_paper(logit, gamma):
    """Lin et al. 2017, equation 11: y (1 - p)^gamma (gamma p log p + p - 1)."""
    x = torch.tensor(logit, dtype=torch.float64, requires_grad=True)
    focal(functional.softplus(-x), gamma).backward()
    p = 1 / (1 + np.exp(-logit))
    assert x.grad is not None
    expected = (1 - p) ** gamma * (gamma * p * np.log(p) + p - 1)
    assert x.grad.item() == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("gamma", [0.1, 1.0, 2.0])
def test_a_row_that_is_certain_has_a_finite_gradient(gamma):
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    entropies = functional.cross_entropy(logits, torch.tensor([0, 0]), reduction="none")
    focal(entropies, gamma).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_the_loss_of_a_batch_is_the_focal_loss_of_each_row_times_its_weight():
    model = Logits([[0.3, -1.0, 2.0], [1.5, 0.2, 0.1]])
    labels, weights = torch.tensor([2, 1]), torch.tensor([0.25, 0.5])
    shares = model.logits.detach().softmax(dim=1)[[0, 1], labels]
    expected = (-((1 - shares) ** 2) * shares.log() * weights).sum()
    found = task(loss=FOCAL).objective(model, Batch({}, labels, weights))
    torch.testing.assert_close(found.detach(), expected)


def test_with_several_labels_each_known_one_has_its_focal_loss():
    model = Logits([[0.3, -1.0, 2.0]])
    labels, weights = torch.tensor([[1, 0, -1]]), torch.tensor([0.5])
    several = task(loss=FOCAL, multi_label=True)
    assert isinstance(several, MultiLabel)
    right = torch.tensor([0.3, 1.0]).sigmoid()
    expected = (-((1 - right) ** 2) * right.log()).sum() / 3 * 0.5
    found = several.objective(model, Batch({}, labels, weights))
    torch.testing.assert_close(found.detach(), expected)


def test_without_the_option_the_loss_is_the_cross_entropy():
    model = Logits([[0.3, -1.0, 2.0]])
    labels, weights = torch.tensor([1]), torch.ones(1)
    expected = functional.cross_entropy(model.logits, labels)
    for made in (task(), task(loss={"type": "CrossEntropy"})):
        assert torch.equal(made.objective(model, Batch({}, labels, weights)), expected)


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0.125, 8)), min_size=1, max_size=40))
def test_balanced_weights_are_those_of_scikit_learn_and_their_sum_stays(rows):
    labels = np.array([label for label, _ in rows])
    weights = np.array([weight for _, weight in rows], np.float32)
    whole = np.repeat(labels, 8 * 8), np.ones(len(labels) * 64, np.float32)
    alike = balanced(*whole, np.arange(len(whole[0])))
    np.testing.assert_allclose(alike, compute_sample_weight("balanced", whole[0]), rtol=1e-5)

    found = balanced(labels, weights, np.arange(len(labels)))
    sums = [found[labels == label].sum() for label in np.unique(labels)]
    np.testing.assert_allclose(sums, weights.sum() / len(sums), rtol=1e-4)


def test_only_training_rows_are_counted_and_weighed():
    labels, weights = np.array([0, 0, 0, 1, 1]), np.ones(5, np.float32)
    assert balanced(labels, weights, np.array([0, 1, 2, 3])).tolist() == pytest.approx(
        [2 / 3, 2 / 3, 2 / 3, 2, 1]
    )
