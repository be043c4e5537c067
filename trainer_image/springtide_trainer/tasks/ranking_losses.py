"""Losses of ranked groups: pointwise, pairwise and listwise. Each returns one value per group.

All take the scores of whole groups, one group after the other; the order of the rows in a group has
no effect. Gains are relevances of at least 0, not label indices.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    Loss = Callable[[Tensor, Tensor, Sequence[int]], Tensor]
    """From scores and gains, float32 [rows], and rows of each group, to losses [groups]."""


def pointwise(scores: Tensor, gains: Tensor, sizes: Sequence[int]) -> Tensor:
    """Mean over the rows of the binary cross-entropy of sigmoid(score).

    This is the loss of monoBERT (Nogueira and Cho 2019); a graded gain is a target between 0 and 1.

    Args:
        scores: float32 [rows].
        gains: float32 [rows], scaled to 0 for irrelevant rows and 1 for the highest gain.
        sizes: Rows of each group; their sum is the number of rows.
    """
    losses = functional.binary_cross_entropy_with_logits(scores, gains, reduction="none")
    return _padded(losses, sizes, 0.0).sum(dim=1) / _counts(sizes, losses)


def pairwise(scores: Tensor, gains: Tensor, sizes: Sequence[int]) -> Tensor:
    """Mean over the pairs of unequal gain of log(1 + exp(score of the lower - of the higher)).

    This is RankNet (Burges et al. 2005, with sigma = 1). A group without such a pair has loss 0.

    Args:
        scores: float32 [rows].
        gains: float32 [rows].
        sizes: Rows of each group; their sum is the number of rows.
    """
    score = _padded(scores, sizes, 0.0)
    gain = _padded(gains, sizes, float("nan"))  # compares as false: padding is in no pair
    higher = gain[:, :, None] > gain[:, None, :]
    losses = functional.softplus(score[:, None, :] - score[:, :, None])
    pairs = higher.sum(dim=(1, 2)).clamp(min=1)
    return torch.where(higher, losses, 0.0).sum(dim=(1, 2)) / pairs


def listwise(scores: Tensor, gains: Tensor, sizes: Sequence[int]) -> Tensor:
    """Cross-entropy between the shares of the gains and the softmax of the scores of a group.

    This is the top-one loss of ListNet (Cao et al. 2007) with targets proportional to the gains:
    with them it bounds the mean reciprocal rank and NDCG (Bruch et al. 2019), and irrelevant rows
    have the target 0. A group without a relevant row has loss 0.

    Args:
        scores: float32 [rows].
        gains: float32 [rows].
        sizes: Rows of each group; their sum is the number of rows.
    """
    gain = _padded(gains, sizes, 0.0)
    share = gain / gain.sum(dim=1, keepdim=True).clamp(min=torch.finfo(gain.dtype).tiny)
    least = torch.finfo(scores.dtype).min
    return -(share * _padded(scores, sizes, least).log_softmax(dim=1)).sum(dim=1)


LOSSES: dict[str, Loss] = {"Pointwise": pointwise, "Pairwise": pairwise, "Listwise": listwise}
"""The losses by `model.ranking.loss`."""


def sums(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """Sum a value of rows over each group: [groups]."""
    return _padded(values, sizes, 0.0).sum(dim=1)


def _padded(values: Tensor, sizes: Sequence[int], fill: float) -> Tensor:
    """Return the values of each group as a row: [groups, rows of the largest group]."""
    parts = list(torch.split(values, list(sizes)))
    return pad_sequence(parts, batch_first=True, padding_value=fill)


def _counts(sizes: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(sizes, dtype=like.dtype, device=like.device)
