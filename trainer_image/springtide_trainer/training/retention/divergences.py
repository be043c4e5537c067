"""How far the outputs of a model are from those of its parent, by the type of the task.

Each returns one value for each unit, at least 0 and 0 for equal outputs. With a temperature they
are multiplied by its square, so that their gradients do not become smaller with it (Hinton et al.
2015, section 2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.multi_label import MultiLabel
from springtide_trainer.tasks.ranking import Ranking
from springtide_trainer.tasks.regression import Regression

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    Divergence = Callable[[Tensor, Tensor, float, Sequence[int]], Tensor]
    """From logits and the parent's, float32 [rows, outputs], temperature and rows of each group to
    [units]."""


def of_labels(found: Tensor, taught: Tensor, temperature: float, groups: Sequence[int]) -> Tensor:
    """KL divergence of the softened probabilities from the parent's (Hinton et al. 2015).

    Args:
        found: float32 [rows, labels], logits for the labels of the parent.
        taught: float32 [rows, labels], the parent's.
        temperature: Divides the logits.
        groups: Empty.
    """
    return _kl(found / temperature, taught / temperature) * temperature**2


def of_each_label(
    found: Tensor, taught: Tensor, temperature: float, groups: Sequence[int]
) -> Tensor:
    """Mean over the labels of the KL divergence of each softened probability from the parent's.

    Args:
        found: float32 [rows, labels], logits for the labels of the parent.
        taught: float32 [rows, labels], the parent's.
        temperature: Divides the logits.
        groups: Empty.
    """
    own, old = found / temperature, taught / temperature
    shares = old.sigmoid() * (functional.logsigmoid(old) - functional.logsigmoid(own))
    shares = shares + (-old).sigmoid() * (functional.logsigmoid(-old) - functional.logsigmoid(-own))
    return shares.mean(dim=1) * temperature**2


def of_numbers(found: Tensor, taught: Tensor, temperature: float, groups: Sequence[int]) -> Tensor:
    """Squared difference of the scaled outputs.

    Args:
        found: float32 [rows, 1].
        taught: float32 [rows, 1], the parent's.
        temperature: Without effect.
        groups: Empty.
    """
    return (found - taught).square().squeeze(-1)


def of_groups(found: Tensor, taught: Tensor, temperature: float, groups: Sequence[int]) -> Tensor:
    """KL divergence of the softmax of the softened scores of each group from the parent's.

    The softmax are the chances of the rows to be ranked first (ListNet, Cao et al. 2007). So only
    differences of scores within a group count, and a group of one row has the divergence 0.

    Args:
        found: float32 [rows, 1], scores of whole groups, one group after the other.
        taught: float32 [rows, 1], the parent's.
        temperature: Divides the scores.
        groups: Rows of each group.
    """
    own, old = (_padded(each.squeeze(-1) / temperature, groups) for each in (found, taught))
    return _kl(own, old) * temperature**2


def _kl(own: Tensor, old: Tensor) -> Tensor:
    """Return KL(softmax(old) || softmax(own)) of each row: [rows]."""
    before = old.log_softmax(dim=-1)
    return (before.exp() * (before - own.log_softmax(dim=-1))).sum(dim=-1)


def _padded(scores: Tensor, groups: Sequence[int]) -> Tensor:
    """Return the scores of each group as a row, with padding that has no chance."""
    least = torch.finfo(scores.dtype).min
    parts = list(torch.split(scores, list(groups)))
    return pad_sequence(parts, batch_first=True, padding_value=least)


DIVERGENCES: dict[type, Divergence] = {
    Classification: of_labels,
    MultiLabel: of_each_label,
    Regression: of_numbers,
    Ranking: of_groups,
}
"""The divergences by the class of the task."""
