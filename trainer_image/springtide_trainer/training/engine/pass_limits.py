"""How many rows a forward pass has: as many as the memory that `batchSize` stands for."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class PassLimits:
    """What a forward pass has at most. They only cut a step into passes, never a unit.

    Attributes:
        rows: Rows.
        tokens: Tokens, with padding.
    """

    rows: int
    tokens: int


def pass_limits(
    rows: int, longest: int, *, divisor: int, device: torch.device, step: int = sys.maxsize
) -> PassLimits:
    """Limit the forward passes of a run.

    Memory grows with the tokens of a pass, so the limit is the tokens of `rows` rows of the longest
    length, divided by the divisor. A GPU takes all rows of a step that fit: small passes do not
    fill it. On a CPU more rows in a pass are no faster.

    Args:
        rows: Rows of a pass by the recipe.
        longest: Tokens of the longest row.
        divisor: 1, doubled each time that memory ran out.
        device: The device to train on.
        step: The most rows that this process has of a step. A pass never has more: to divide a
            larger number would not make it smaller.
    """
    most = sys.maxsize if device.type == "cuda" else rows
    return PassLimits(most, max(1, min(rows, step) * longest // divisor))
