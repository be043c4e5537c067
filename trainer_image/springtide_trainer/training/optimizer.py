"""Optimizers and learning-rate schedules of the API.

The learning rate is a function of the step alone, so there is nothing to save or restore.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor, nn

MOMENTUM = 0.9
"""Of SGD."""


def build(
    name: Literal["AdamW", "SGD", "Adafactor"],
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    recorded: bool = False,
    fused: bool = True,
) -> torch.optim.Optimizer:
    """Create an optimizer, with fused kernels where it has them.

    Not those of SGD without `fused`: they do not take parameters of which this process has a part.

    Weight decay applies to matrices only, not to biases and normalization weights.
    Adafactor uses the given learning rate, without relative steps. With `recorded`, AdamW reads the
    learning rate from the GPU, so that its recorded steps have the rate of each step.
    """
    groups = _groups(model, weight_decay)
    match name:
        case "AdamW":
            device = next(model.parameters()).device
            rate = torch.tensor(learning_rate, device=device) if recorded else learning_rate
            return torch.optim.AdamW(groups, lr=rate, fused=True, capturable=recorded)
        case "SGD":
            return torch.optim.SGD(groups, lr=learning_rate, momentum=MOMENTUM, fused=fused)
        case "Adafactor":
            # Imported here, because with it transformers imports its own training loop.
            from transformers.optimization import Adafactor

            return Adafactor(  # type: ignore[no-untyped-call]
                groups, lr=learning_rate, scale_parameter=False, relative_step=False
            )


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    parameters = trainable_parameters(model).values()
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def clip(parameters: Iterable[nn.Parameter], max_norm: float) -> Tensor:
    """Clip the gradients, in place; return their norm before.

    It is the norm of the whole gradients, also where each process has a part of them.
    """
    given = list(parameters)
    gradients = [each.grad for each in given if each.grad is not None]
    parts = [own_part(each) for each in gradients]
    norm = torch.nn.utils.get_total_norm(parts)
    if gradients and parts[0] is not gradients[0]:
        squares = norm.square()
        torch.distributed.all_reduce(squares)
        norm = squares.sqrt()
    torch.nn.utils.clip_grads_with_norm_(given, max_norm, norm)
    return norm


def own_part(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this process holds; a whole tensor as it is."""
    part: Callable[[], Tensor] | None = getattr(tensor, "to_local", None)
    return part() if part else tensor


def trainable_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that are not frozen, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


@dataclass(frozen=True)
class WarmupThen:
    """Linear warm-up, then a decay of the given shape to 0 after the last step.

    Attributes:
        shape: Linear, Cosine (half a period) or Constant (no decay).
        peak: The highest learning rate.
        total: Steps of the whole run.
        warmup: Share of the steps in the warm-up.
    """

    shape: Literal["Linear", "Cosine", "Constant"]
    peak: float
    total: int
    warmup: float

    def __call__(self, step: int) -> float:
        """Return the learning rate of a step, counted from 1."""
        rising = math.ceil(self.warmup * self.total)
        if step <= rising:
            return self.peak * step / (rising + 1)
        done = (step - 1 - rising) / max(1, self.total - rising)
        match self.shape:
            case "Linear":
                return self.peak * (1 - done)
            case "Cosine":
                return self.peak * (1 + math.cos(math.pi * done)) / 2
            case "Constant":
                return self.peak
