"""The optimisers of the API, over the weights that move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from transformers.optimization import Adafactor

if TYPE_CHECKING:
    from torch import nn

MOMENTUM = 0.9
"""Of SGD, as is usual for networks."""


def build(
    name: Literal["AdamW", "SGD", "Adafactor"],
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
) -> torch.optim.Optimizer:
    """Make an optimiser; fused kernels where the optimiser has them.

    Weight decay pulls at matrices only: biases and the scales of norms are left alone.
    Adafactor takes the learning rate as it is given, without its own relative steps.
    """
    groups = _groups(model, weight_decay)
    match name:
        case "AdamW":
            return torch.optim.AdamW(groups, lr=learning_rate, fused=True)
        case "SGD":
            return torch.optim.SGD(groups, lr=learning_rate, momentum=MOMENTUM, fused=True)
        case "Adafactor":
            return Adafactor(  # type: ignore[no-untyped-call]
                groups, lr=learning_rate, scale_parameter=False, relative_step=False
            )


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    moving = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in moving if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in moving if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
