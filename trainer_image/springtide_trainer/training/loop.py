"""The training loop: everything that happens to the weights, on one screen.

What to learn from (`objective`), in which order (`steps`), when to look up (`observers`) and when
to stop (`stop`) are objects handed in, so a new way of training is a new object and never an `if`
in here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch.nn import functional

from springtide_trainer.errors import Diverged

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch import Tensor, nn

    from springtide_trainer.training.batches import Batch, Step
    from springtide_trainer.training.precision import Precision


ALL_SEEN = "all rows seen"
"""Reason of a run that came to its end."""


class Objective(Protocol):
    """What to learn."""

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of one batch: a scalar, the sum over its rows, each by its weight."""


class Schedule(Protocol):
    """How fast."""

    def __call__(self, step: int) -> float:
        """Return the learning rate of this step, counted from 1."""


class Observer(Protocol):
    """Who looks on."""

    def __call__(self, step: int, loss: float) -> None:
        """Look at a finished step; progress, early stopping and checkpoints are observers."""


class Stop(Protocol):
    """When to end."""

    def __call__(self, step: int) -> str | None:
        """Return the reason to stop after this step, or None to go on."""


@dataclass(frozen=True)
class Outcome:
    """How the loop ended: the last step's number, and why it was the last."""

    step: int
    reason: str


def train(
    model: nn.Module,
    steps: Iterable[Step],
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    *,
    schedule: Schedule,
    precision: Precision,
    max_grad_norm: float = 1.0,
    observers: Sequence[Observer] = (),
    stop: Stop = lambda step: None,
) -> Outcome:
    """Update `model` in place, once for each step.

    Chance (dropout) is a function of the step alone, so a step is the same whoever takes it.

    Raises:
        Diverged: loss or gradient became NaN or infinite; the weights are as of the last step.
    """
    number = 0
    for step in steps:
        number = step.number
        model.train()
        torch.manual_seed(step.seed)
        for group in optimizer.param_groups:
            group["lr"] = schedule(number)
        total = torch.zeros((), device=precision.device)
        for batch in step.batches:
            on_device = batch.to(precision.device)
            with precision.forward():
                loss = objective(model, on_device)
            precision.backward(loss)
            total += loss.detach()
        if not math.isfinite(value := total.item()):
            raise Diverged(number, value)
        if not precision.step(optimizer, model.parameters(), max_grad_norm):
            raise Diverged(number, math.inf)
        optimizer.zero_grad()
        for observe in observers:
            observe(number, value)
        if reason := stop(number):
            return Outcome(number, reason)
    return Outcome(number, ALL_SEEN)


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    """Negative log likelihood of the labels, each row by its part in the step."""
    logits = model(**batch.inputs).logits.float()
    losses = functional.cross_entropy(logits, batch.labels, reduction="none")
    return (losses * batch.weights).sum()
