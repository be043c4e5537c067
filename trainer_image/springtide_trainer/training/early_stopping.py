"""Stops training when the validation metric no longer improves, and restores the best weights.

The metric of the parent's weights, at step 0, is the first value to improve on; if no step does,
the parent's weights are kept. The validation split is taken from the training rows by entity; it
never contains holdout rows.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch

from springtide_api.contract import ExitCode
from springtide_judging.bounds import LOWER_IS_BETTER
from springtide_trainer.errors import Refused
from springtide_trainer.training.optimizer import trainable_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor, nn

    from springtide_api.update.training import EarlyStopping as Options

PATIENCE_EXHAUSTED = "patience exhausted"
_WEIGHT = "weight/"
_CHUNK = 16_384


def validation_split(
    entities: Sequence[str] | pa.Array, fraction: float, *, manifest: str
) -> NDArray[np.bool_]:
    """Mark the rows of the validation split: those of the entities with the lowest hashes.

    Both splits get at least one entity, whatever the fraction.

    Args:
        entities: The entity of each row.
        fraction: Share of the entities in the validation split.
        manifest: Digest of the frozen rows. It salts the hash, so that each window holds out
            different entities and no entity is permanently excluded from training.

    Raises:
        Refused: there are fewer than two entities.
    """
    column = entities if isinstance(entities, pa.Array) else pa.array(entities, pa.string())
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    codes = column.indices.to_numpy()
    known = np.unique(codes)
    if len(known) < 2:
        raise Refused(
            "NotEnoughData",
            "early stopping needs at least 2 entities to hold out a validation split; the "
            f"window has {len(known)}; collect more data or remove training.earlyStopping",
            "spec.training.earlyStopping",
            ExitCode.TOO_LITTLE_DATA,
        )
    count = min(max(1, math.ceil(fraction * len(known))), len(known) - 1)
    hashes = _hashes(column.dictionary, f"springtide/validation/{manifest}/".encode())
    chosen = known[np.argsort(hashes[known], kind="stable")[:count]]
    held_out = np.zeros(len(hashes), dtype=bool)
    held_out[chosen] = True
    return np.asarray(held_out[codes])


def _hashes(names: pa.Array, salt: bytes) -> NDArray[np.uint64]:
    """Hash each name: the first 8 bytes of SHA-256, big-endian. Names are read in chunks."""
    made = np.empty(len(names), np.uint64)
    for start in range(0, len(names), _CHUNK):
        chunk = names.slice(start, _CHUNK).to_pylist()
        heads = (hashlib.sha256(salt + name.encode()).digest()[:8] for name in chunk)
        made[start : start + len(chunk)] = np.frombuffer(b"".join(heads), ">u8")
    return made


class EarlyStopping:
    """An observer that validates every `everySteps` steps, and a stop condition.

    Args:
        options: The recipe's settings.
        model: The model in training.
        metric: The metric that is measured.
        last: Number of the last step, which is validated too.
        measure: Returns the metric on the validation split.
    """

    def __init__(
        self,
        options: Options,
        model: nn.Module,
        *,
        metric: str,
        last: int,
        measure: Callable[[], float],
    ) -> None:
        self._every = options.every_steps
        self._patience = options.patience
        self._min_delta = float(options.min_delta)
        self.metric = metric
        self._sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
        self._model = model
        self._last = last
        self.measure = measure
        self._without_gain = 0
        self.best: dict[str, Tensor] = {}
        self.best_value = math.nan
        self.best_step = 0
        self.newest_value = math.nan

    def begin(self) -> None:
        """Validate the parent's weights, unless a checkpoint has restored their value.

        Raises:
            Refused: the metric has no value, so no step could be compared with another.
        """
        if not math.isnan(self.best_value):
            return
        self.observe(0, math.nan)
        if math.isnan(self.best_value):
            raise Refused(
                "OneClass",
                f"{self.metric} has no value on the validation rows: no label, or no group, "
                "decides it; choose another metric, raise validationFraction, or remove "
                "training.earlyStopping",
                "spec.training.earlyStopping.metric",
            )

    def due(self, step: int) -> bool:
        """Return whether a step is followed by a validation."""
        return step % self._every == 0 or step == self._last

    def observe(self, step: int, loss: float) -> None:
        """Validate, and keep a copy of the weights if they are the best so far."""
        if not self.due(step):
            return
        self.newest_value = value = self.measure()
        gain = self._sign * (value - self.best_value)
        if math.isnan(self.best_value) or gain > self._min_delta:
            self.best = {
                name: w.detach().clone() for name, w in trainable_parameters(self._model).items()
            }
            self.best_value, self.best_step, self._without_gain = value, step, 0
        else:
            self._without_gain += 1

    def stop(self, step: int) -> str | None:
        """Return a reason to stop after `patience` validations without improvement."""
        return PATIENCE_EXHAUSTED if self._without_gain >= self._patience else None

    def better(self, value: float, than: float) -> bool:
        """Return whether a value of the metric is better than another."""
        return self._sign * (value - than) > 0

    def restore_best(self) -> None:
        """Load the best weights into the model."""
        with torch.no_grad():
            for name, weight in trainable_parameters(self._model).items():
                if name in self.best:
                    weight.copy_(self.best[name])

    def state_dict(self) -> dict[str, Any]:
        """Return best value, step and weights, and the validations without improvement."""
        known = None if math.isnan(self.best_value) else self.best_value
        numbers = {"best": known, "bestStep": self.best_step, "withoutGain": self._without_gain}
        return numbers | {f"{_WEIGHT}{name}": weight for name, weight in self.best.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the state of a checkpoint."""
        self.best_value = math.nan if state["best"] is None else float(state["best"])
        self.best_step, self._without_gain = int(state["bestStep"]), int(state["withoutGain"])
        device = next(self._model.parameters()).device
        self.best = {
            name.removeprefix(_WEIGHT): weight.to(device)
            for name, weight in state.items()
            if name.startswith(_WEIGHT)
        }
