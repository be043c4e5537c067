"""Finds losses, gradients and weights that are not finite, without waiting for a GPU at each step.

A GPU computes behind the program; to read a number is to wait for it. So losses and gradient norms
are read every few steps, and before anything is validated, saved or exported.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import torch

from springtide_trainer.errors import Diverged
from springtide_trainer.training.optimizer import own_part

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

ON_GPU = 20
"""Steps between two readings on a GPU. On a CPU each step is read: there is nothing to wait for."""
RECENT = 100
"""The reported loss is the mean over this many last steps."""


class FiniteChecks:
    """The losses and gradient norms of a run.

    Args:
        every: Steps between two readings.
        summed: Adds the losses of steps up over all processes, of which each has some of the rows;
            the norms are those of all rows.
    """

    def __init__(
        self, every: int, summed: Callable[[Tensor], Tensor] = lambda losses: losses
    ) -> None:
        self._every = every
        self._summed = summed
        self._steps: list[int] = []
        self._unread: list[Tensor] = []
        self.recent: deque[float] = deque(maxlen=RECENT)
        """Losses of the last steps that were read, all of them finite."""

    @staticmethod
    def on(
        device: torch.device, summed: Callable[[Tensor], Tensor] = lambda losses: losses
    ) -> FiniteChecks:
        """Return the checks of a run on a device."""
        return FiniteChecks(1 if device.type == "cpu" else ON_GPU, summed)

    @property
    def loss(self) -> float:
        """Loss of the last step that was read; NaN before the first reading."""
        return self.recent[-1] if self.recent else math.nan

    def add(self, step: int, loss: Tensor, norm: Tensor) -> None:
        """Add a step, and read if it is time.

        Args:
            step: Number of the step.
            loss: Its loss, a scalar on the device.
            norm: The norm of its gradients, a scalar on the device.

        Raises:
            Diverged: see `read`.
        """
        self._steps.append(step)
        self._unread.append(torch.stack([loss.float(), norm.float()]))
        if len(self._steps) >= self._every:
            self.read()

    def read(self) -> None:
        """Read what was added since the last reading, in one transfer from the device.

        Raises:
            Diverged: a loss or norm is not finite; names the first step of which this is so.
        """
        if not self._steps:
            return
        steps, (losses, norms) = self._steps, torch.stack(self._unread, dim=1).cpu()
        self._steps, self._unread = [], []
        values = zip(self._summed(losses).tolist(), norms.tolist(), strict=True)
        for step, (loss, norm) in zip(steps, values, strict=True):
            if not math.isfinite(loss):
                raise Diverged(step, f"loss is {loss}")
            if not math.isfinite(norm):
                raise Diverged(step, f"gradient norm is {norm}")
            self.recent.append(loss)


def check_tensors(tensors: Mapping[str, Tensor], step: int) -> None:
    """Check that all values are finite, with one transfer from each device.

    Of a tensor in parts each process checks its own: one that fails ends the others.

    Args:
        tensors: Weights and optimizer state after a step, by name. Integers are skipped.
        step: Number of the step.

    Raises:
        Diverged: names a tensor with a value that is not finite.
    """
    found: dict[torch.device, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if tensor.is_floating_point():
            found.setdefault(tensor.device, {})[name] = own_part(tensor).isfinite().all()
    for finite in found.values():
        if not bool(torch.stack([*finite.values()]).all()):
            name = next(name for name, each in finite.items() if not bool(each))
            raise Diverged(step, f"{name} is not finite")
