"""The divergences from a parent's outputs, computed by hand."""

from __future__ import annotations

from math import exp, log

import pytest
import torch

from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.multi_label import MultiLabel
from springtide_trainer.tasks.ranking import Ranking
from springtide_trainer.tasks.regression import Regression
from springtide_trainer.training.retention.divergences import DIVERGENCES

T = 2.0


def softened(*logits: float) -> list[float]:
    powers = [exp(each / T) for each in logits]
    return [each / sum(powers) for each in powers]


def kl(parent: list[float], own: list[float]) -> float:
    return sum(p * log(p / q) for p, q in zip(parent, own, strict=True))


def test_labels_are_compared_by_their_softened_probabilities():
    own, parent = (2.0, 0.0, -1.0), (0.0, 3.0, 1.0)
    found = DIVERGENCES[Classification](torch.tensor([own]), torch.tensor([parent]), T, ())
    assert found.tolist() == pytest.approx([T**2 * kl(softened(*parent), softened(*own))])


def test_each_of_several_labels_is_compared_by_its_own_probability():
    own, parent = (2.0, -1.0), (0.5, 3.0)
    each = [
        kl(softened(old, 0.0), softened(new, 0.0)) for old, new in zip(parent, own, strict=True)
    ]
    found = DIVERGENCES[MultiLabel](torch.tensor([own]), torch.tensor([parent]), T, ())
    assert found.tolist() == pytest.approx([T**2 * sum(each) / 2])


def test_numbers_are_compared_by_the_square_of_their_difference():
    own, parent = torch.tensor([[1.0], [2.0]]), torch.tensor([[1.5], [-1.0]])
    assert DIVERGENCES[Regression](own, parent, T, ()).tolist() == [0.25, 9.0]


def test_scores_are_compared_within_their_group_and_by_their_differences_alone():
    own = torch.tensor([[1.0], [0.0], [5.0], [2.0], [2.0], [4.0]])
    parent = torch.tensor([[0.0], [3.0], [-7.0], [9.0], [8.0], [9.0]])
    found = DIVERGENCES[Ranking](own, parent, T, (2, 1, 3))
    expected = [
        T**2 * kl(softened(0.0, 3.0), softened(1.0, 0.0)),
        0.0,
        T**2 * kl(softened(9.0, 8.0, 9.0), softened(2.0, 2.0, 4.0)),
    ]
    assert found.tolist() == pytest.approx(expected)
    torch.testing.assert_close(DIVERGENCES[Ranking](own + 3, parent - 4, T, (2, 1, 3)), found)


def test_gradients_of_a_high_temperature_are_those_of_squared_logits():
    """Hinton et al. 2015, equation 4: for logits of mean 0, (own - parent) / labels."""
    own = torch.tensor([[0.3, -0.1, -0.2]], requires_grad=True)
    parent = torch.tensor([[-0.2, 0.4, -0.2]])
    DIVERGENCES[Classification](own, parent, 1e3, ()).sum().backward()
    torch.testing.assert_close(own.grad, (own.detach() - parent) / 3, atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("task", DIVERGENCES)
def test_equal_outputs_have_no_divergence_and_no_gradient_also_where_they_are_certain(task):
    width = 1 if task in {Regression, Ranking} else 3
    parent = 60 * torch.randn(4, width, generator=torch.Generator().manual_seed(1))
    own = parent.clone().requires_grad_()
    found = DIVERGENCES[task](own, parent, T, (1, 3) if task is Ranking else ())
    found.sum().backward()
    assert found.abs().max() < 1e-5
    assert own.grad.abs().max() < 1e-5
