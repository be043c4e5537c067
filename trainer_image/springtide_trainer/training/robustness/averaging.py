"""Averages the trained weights over the steps, beside the weights that are trained."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn

from springtide_trainer.training.optimizer import trainable_parameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor, nn

    from springtide_api.update.robustness import Averaging as Options
    from springtide_api.update.robustness import Robustness


def of(wanted: Robustness | None, model: nn.Module, *, total: int) -> Averaging | None:
    """Return the averaging that a recipe asks for; None without."""
    if wanted is None or wanted.averaging is None:
        return None
    return Averaging(wanted.averaging, model, total=total)


class Averaging:
    """An observer that averages the trained weights after each step, FP32.

    The weights that are trained do not depend on it.

    Args:
        options: The recipe's settings.
        model: The model in training.
        total: Number of steps of the whole run.
    """

    def __init__(self, options: Options, model: nn.Module, *, total: int) -> None:
        self._ema = float(options.ema) if options.ema is not None else None
        self._first = max(1, total - options.last_k + 1) if options.last_k else 1
        self._weights = trainable_parameters(model)
        self.mean: dict[str, Tensor] = {}
        """The average by the name of the parameter; empty before its first step."""

    def observe(self, step: int, loss: float) -> None:
        """Add the weights after a step: as a function of the step alone, so a resumed run does."""
        if step < self._first:
            return
        if not self.mean:
            self.mean = {name: w.detach().clone() for name, w in self._weights.items()}
            return
        means, weights = [*self.mean.values()], [w.detach() for w in self._weights.values()]
        if self._ema is None:
            update = get_swa_multi_avg_fn()  # type: ignore[no-untyped-call]
        else:
            decay = min(self._ema, (1 + step) / (10 + step))
            update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        update(means, weights, step - self._first)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the average in the place of the weights, in this block."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def load(self) -> None:
        """Load the average into the model."""
        with torch.no_grad():
            for name, mean in self.mean.items():
                self._weights[name].copy_(mean)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the average."""
        return self.mean

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Continue from the average of a checkpoint."""
        self.mean = {name: state[name].to(w.device) for name, w in self._weights.items() if state}

    def _swap(self) -> None:
        """Exchange values and not tensors: the optimizer and recorded steps refer to these."""
        with torch.no_grad():
            for name, mean in self.mean.items():
                weight = self._weights[name]
                held = weight.clone()
                weight.copy_(mean)
                mean.copy_(held)
