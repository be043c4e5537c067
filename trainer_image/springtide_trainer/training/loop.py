"""The training loop: every update of the weights, on one screen.

The loss (`objective`), the order of the rows (`steps`), callbacks (`observers`) and the stop
condition (`stop`) are arguments, so a new training method is a new object and not an `if` here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from springtide_trainer.training.engine.finite_checks import FiniteChecks
from springtide_trainer.training.optimizer import set_learning_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from torch import Tensor, nn

    from springtide_trainer.tasks.task import Batch
    from springtide_trainer.training.engine.step_graphs import Take, Taken
    from springtide_trainer.training.precision import Precision
    from springtide_trainer.training.rows.batches import Step


ALL_SEEN = "all epochs completed"
"""Reason of a run that completed all its steps."""


class Objective(Protocol):
    """The loss function."""

    def __call__(self, model: nn.Module, batch: Batch, /) -> Tensor:
        """Return the loss of one batch: a scalar, the weighted sum over its rows."""


class Schedule(Protocol):
    """The learning-rate schedule."""

    def __call__(self, step: int) -> float:
        """Return the learning rate of this step, counted from 1."""


class Observer(Protocol):
    """A callback after each step, while its clipped gradients are still there.

    Not where the engine replays recorded steps: it keeps no gradients.
    """

    def __call__(self, step: int, loss: float) -> None:
        """Process a finished step: progress, early stopping and checkpoints are observers.

        Args:
            step: Number of the step.
            loss: The last known loss; on a GPU that of an earlier step.
        """


class Stop(Protocol):
    """The stop condition."""

    def __call__(self, step: int) -> str | None:
        """Return the reason to stop after this step, or None to continue."""


@dataclass(frozen=True)
class Outcome:
    """How the loop ended: the number of the last step, and the reason."""

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
    checks: FiniteChecks | None = None,
    passes: Callable[[list[Batch]], Iterable[Batch]] = iter,
    penalize: Callable[[], Tensor | float] = lambda: 0.0,
    engine: Callable[[Take], Take] = lambda take: take,
    observers: Sequence[Observer] = (),
    stop: Stop = lambda step: None,
) -> Outcome:
    """Update `model` in place, once for each step.

    Random numbers (dropout) are seeded by the step alone, so a resumed run repeats them exactly.
    `passes` iterates over the batches of a step: with several processes it says which pass is the
    last. `penalize` adds the gradients of a term of the weights alone, once for a step, and returns
    the term. `engine` returns what takes a step, from what takes it kernel by kernel.

    Raises:
        Diverged: loss or gradient became NaN or infinite, as the checks found. Without checks each
            step is checked.
    """

    def take(batches: list[Batch]) -> Taken:
        total = torch.zeros((), device=precision.device)
        for batch in passes(batches):
            on_device = batch.to(precision.device)
            with precision.forward():
                loss = objective(model, on_device)
            precision.backward(loss)
            total += loss.detach()
        total += penalize()
        return total, precision.step(optimizer, model.parameters(), max_grad_norm)

    number, checks, taking = 0, checks or FiniteChecks(every=1), engine(take)
    for step in steps:
        number = step.number
        if not model.training:  # since the start, or a validation
            model.train()
        _seed(step.seed, precision.device)
        set_learning_rate(optimizer, schedule(number))
        checks.add(number, *taking(step.batches))
        for observe in observers:
            observe(number, checks.loss)
        optimizer.zero_grad()
        if reason := stop(number):
            return Outcome(number, reason)
    return Outcome(number, ALL_SEEN)


def _seed(seed: int, device: torch.device) -> None:
    """Seed the random numbers of a step.

    For GPUs that nothing uses PyTorch would only write the call stack down, each time: 1 ms.
    """
    if device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)
