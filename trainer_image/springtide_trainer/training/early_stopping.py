"""Stops when the validation part no longer gets better, and gives back the best weights.

The parent's own value, at step 0, is the first to beat: where no step beats it, the weights stay
the parent's. The validation part is made of training rows, whole entities at a time; what the gate
judges is never looked at.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from springtide_api.contract import ExitCode
from springtide_trainer.errors import Refused
from springtide_trainer.training.optimizer import trainable_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from springtide_api.training_spec import EarlyStopping as Options

LOWER_IS_BETTER = frozenset({"log_loss"})


def validation_part(
    entities: Sequence[str], fraction: float, *, manifest: str
) -> NDArray[np.bool_]:
    """Mark the rows of the entities that are set aside: those with the lowest hashes.

    At least one entity is set aside and one is left, whatever the fraction.

    Args:
        entities: The entity of each row.
        fraction: Share of the entities to set aside.
        manifest: Digest of the frozen rows. It salts the hash: another window sets other entities
            aside, so that none is left out of training for ever.

    Raises:
        Refused: there is only one entity.
    """
    salt = f"springtide/validation/{manifest}/".encode()
    known = sorted(
        set(entities), key=lambda entity: hashlib.sha256(salt + entity.encode()).digest()
    )
    if len(known) < 2:
        raise Refused(
            "NotEnoughData",
            f"early stopping sets entities aside and the window has {len(known)}; it needs 2",
            "spec.training.earlyStopping",
            ExitCode.TOO_LITTLE_DATA,
        )
    count = min(max(1, math.ceil(fraction * len(known))), len(known) - 1)
    aside = set(known[:count])
    return np.fromiter((entity in aside for entity in entities), dtype=bool, count=len(entities))


class EarlyStopping:
    """An observer that looks every so many steps, and a stop once patience is spent.

    Args:
        options: As the recipe has them.
        model: The model in training.
        last: Number of the last step: it is looked at too.
        measure: Returns the metric on the validation part.
    """

    def __init__(
        self, options: Options, model: nn.Module, *, last: int, measure: Callable[[], float]
    ) -> None:
        self._every = options.every_steps
        self._patience = options.patience
        self._min_delta = float(options.min_delta)
        self._sign = -1.0 if options.metric in LOWER_IS_BETTER else 1.0
        self._model = model
        self._last = last
        self._measure = measure
        self._without_gain = 0
        self.best: dict[str, Tensor] = {}
        self.best_value = math.nan
        self.best_step = 0

    def begin(self) -> None:
        """Look at the parent's weights, unless a checkpoint brought a look back."""
        if math.isnan(self.best_value):
            self.observe(0, math.nan)

    def observe(self, step: int, loss: float) -> None:
        """Look, and keep the weights if they are the best so far."""
        if step % self._every and step != self._last:
            return
        value = self._measure()
        gain = self._sign * (value - self.best_value)
        if math.isnan(self.best_value) or gain > self._min_delta:
            self.best = {
                name: w.detach().clone() for name, w in trainable_parameters(self._model).items()
            }
            self.best_value, self.best_step, self._without_gain = value, step, 0
        else:
            self._without_gain += 1

    def stop(self, step: int) -> str | None:
        """Return why to stop, if patience is spent."""
        return "patience spent" if self._without_gain >= self._patience else None

    def take_best(self) -> None:
        """Put the best weights into the model."""
        with torch.no_grad():
            for name, weight in trainable_parameters(self._model).items():
                if name in self.best:
                    weight.copy_(self.best[name])

    def numbers(self) -> dict[str, Any]:
        """Return what `resume` needs besides the best weights."""
        known = None if math.isnan(self.best_value) else self.best_value
        return {"best": known, "bestStep": self.best_step, "withoutGain": self._without_gain}

    def resume(self, numbers: dict[str, Any], best: dict[str, Tensor]) -> None:
        """Go on from the state of a checkpoint."""
        self.best_value = math.nan if numbers["best"] is None else float(numbers["best"])
        self.best_step, self._without_gain = int(numbers["bestStep"]), int(numbers["withoutGain"])
        device = next(self._model.parameters()).device
        self.best = {name: tensor.to(device) for name, tensor in best.items()}
