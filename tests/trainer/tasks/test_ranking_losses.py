"""Losses of ranked groups compared with cases that were computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from springtide_trainer.tasks.ranking_losses import LOSSES, listwise, pairwise, pointwise


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_pairwise_loss_is_ranknet_with_its_gradient():
    scores = torch.tensor([0.5, 2.0, -1.0], requires_grad=True)
    loss = pairwise(scores, torch.tensor([2.0, 0.0, 1.0]), [3])
    # The pairs of higher and lower gain: rows (0, 1), (0, 2), (2, 1).
    pairs = [(0.5, 2.0), (0.5, -1.0), (-1.0, 2.0)]
    assert loss.tolist() == pytest.approx(
        [sum(math.log(1 + math.exp(low - high)) for high, low in pairs) / 3]
    )
    loss.sum().backward()
    # The derivative of a pair by the higher score is -sigmoid(lower - higher).
    first, second, third = (sigmoid(low - high) for high, low in pairs)
    expected = [-(first + second) / 3, (first + third) / 3, (second - third) / 3]
    assert scores.grad.tolist() == pytest.approx(expected)


def test_the_listwise_loss_is_the_cross_entropy_of_shares_with_its_gradient():
    scores = torch.tensor([0.5, 2.0, -1.0], requires_grad=True)
    loss = listwise(scores, torch.tensor([3.0, 0.0, 1.0]), [3])
    total = sum(math.exp(score) for score in (0.5, 2.0, -1.0))
    chance = [math.exp(score) / total for score in (0.5, 2.0, -1.0)]
    assert loss.tolist() == pytest.approx(
        [-(0.75 * math.log(chance[0]) + 0.25 * math.log(chance[2]))]
    )
    loss.sum().backward()
    # The derivative of a cross-entropy is softmax minus target.
    expected = [chance[0] - 0.75, chance[1], chance[2] - 0.25]
    assert scores.grad.tolist() == pytest.approx(expected)


def test_the_pointwise_loss_is_the_mean_binary_cross_entropy_with_its_gradient():
    scores = torch.tensor([0.5, 2.0], requires_grad=True)
    loss = pointwise(scores, torch.tensor([1.0, 0.25]), [2])
    chance = [sigmoid(0.5), sigmoid(2.0)]
    expected = -math.log(chance[0])
    expected -= 0.25 * math.log(chance[1]) + 0.75 * math.log(1 - chance[1])
    assert loss.tolist() == pytest.approx([expected / 2])
    loss.sum().backward()
    assert scores.grad.tolist() == pytest.approx([(chance[0] - 1) / 2, (chance[1] - 0.25) / 2])


@pytest.mark.parametrize("name", LOSSES)
def test_a_permutation_of_the_rows_of_a_group_changes_nothing(name):
    torch.manual_seed(1)
    scores, gains, sizes = torch.randn(9), torch.tensor([0, 1, 0.5, 0, 0, 1, 0, 1, 0.0]), [4, 2, 3]
    order = torch.tensor([2, 0, 3, 1, 5, 4, 8, 7, 6])
    found = []
    for rows in (torch.arange(9), order):
        given = scores[rows].clone().requires_grad_()
        losses = LOSSES[name](given, gains[rows], sizes)
        losses.sum().backward()
        found.append((losses.detach(), torch.zeros(9).index_put((rows,), given.grad)))
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("name", LOSSES)
def test_groups_do_not_affect_each_other(name):
    torch.manual_seed(2)
    scores, gains = torch.randn(7) * 50, torch.tensor([0, 1.0, 0, 0, 0, 1, 0.5])
    together = LOSSES[name](scores, gains, [2, 5])
    alone = [LOSSES[name](scores[:2], gains[:2], [2]), LOSSES[name](scores[2:], gains[2:], [5])]
    torch.testing.assert_close(together, torch.cat(alone))


@pytest.mark.parametrize("name", ["Pairwise", "Listwise"])
@pytest.mark.parametrize("gains", [[0.0, 0.0, 0.0], [0.0]])
def test_a_group_without_a_relevant_row_has_no_loss_and_no_gradient(name, gains):
    scores = torch.tensor([3.0, -2.0, 0.0])[: len(gains)].requires_grad_()
    losses = LOSSES[name](scores, torch.tensor(gains), [len(gains)])
    losses.sum().backward()
    assert (losses.tolist(), scores.grad.tolist()) == ([0.0], [0.0] * len(gains))


@pytest.mark.parametrize("name", LOSSES)
def test_large_scores_give_finite_losses_and_gradients(name):
    scores = torch.tensor([1e4, -1e4, 1e4], requires_grad=True)
    losses = LOSSES[name](scores, torch.tensor([0.0, 1.0, 0.5]), [2, 1])
    losses.sum().backward()
    assert losses.isfinite().all()
    assert scores.grad.isfinite().all()
