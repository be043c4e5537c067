"""Negative log-likelihoods of labels that are drawn from the predictions of a model, by its task.

The expectation of their squared gradients is the diagonal of the Fisher information. Each takes the
logits of one unit, a row or a group.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.multi_label import MultiLabel
from springtide_trainer.tasks.ranking import Ranking
from springtide_trainer.tasks.regression import Regression

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

    Likelihood = Callable[[Tensor, Generator], Tensor]
    """From logits float32 [rows, outputs] and random numbers of the CPU to a scalar."""


def of_one_label(logits: Tensor, generator: Generator) -> Tensor:
    """A label is drawn by its probability.

    Args:
        logits: float32 [1, labels].
        generator: Random numbers.
    """
    shares = logits.detach().softmax(dim=-1).cpu()
    label = torch.multinomial(shares, 1, generator=generator)[:, 0]
    return functional.cross_entropy(logits, label.to(logits.device))


def of_each_label(logits: Tensor, generator: Generator) -> Tensor:
    """The row has each label by its own probability.

    Args:
        logits: float32 [1, labels].
        generator: Random numbers.
    """
    drawn = torch.bernoulli(logits.detach().sigmoid().cpu(), generator=generator)
    return functional.binary_cross_entropy_with_logits(
        logits, drawn.to(logits.device), reduction="sum"
    )


def of_a_number(logits: Tensor, generator: Generator) -> Tensor:
    """The scaled label is normal with variance 1, so no number need be drawn.

    The gradient of its negative log-likelihood is that of the output times a number with the
    expected square 1.

    Args:
        logits: float32 [1, 1].
        generator: Not used.
    """
    return logits.squeeze()


def of_a_group(logits: Tensor, generator: Generator) -> Tensor:
    """The row that is ranked first is drawn by the softmax of the scores (Cao et al. 2007).

    Args:
        logits: float32 [rows, 1], the scores of a group.
        generator: Random numbers.
    """
    return of_one_label(logits.T, generator)


NEGATIVE_LOG_LIKELIHOODS: dict[type, Likelihood] = {
    Classification: of_one_label,
    MultiLabel: of_each_label,
    Regression: of_a_number,
    Ranking: of_a_group,
}
"""The likelihoods by the class of the task."""
