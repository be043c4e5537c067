"""Captures the state of a run as tensors and numbers, and restores it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from springtide_trainer.training.checkpoints import State
from springtide_trainer.training.optimizer import trainable_parameters

if TYPE_CHECKING:
    from torch import nn

    from springtide_trainer.training.early_stopping import EarlyStopping
    from springtide_trainer.training.precision import Precision

FORMAT = 2
"""Version of checkpoint contents and row order: checkpoints of another version are not used."""
_WEIGHT, _MOMENT, _BEST = "weight/", "optimizer/", "best/"


@dataclass(frozen=True)
class Run:
    """The parts of a run that change from step to step.

    The order of rows, the learning rate and dropout are functions of the step and not stored.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    precision: Precision
    early_stopping: EarlyStopping | None = None


def capture(run: Run, step: int) -> State:
    """Return the state after a step. The tensors are not copied."""
    tensors = {
        f"{_WEIGHT}{name}": weight for name, weight in trainable_parameters(run.model).items()
    }
    moments: dict[str, dict[str, Any]] = {}
    for number, values in run.optimizer.state_dict()["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{_MOMENT}{number}/{name}"] = value
            else:
                moments.setdefault(str(number), {})[name] = value
    numbers: dict[str, Any] = {"moments": moments, "precision": run.precision.state_dict()}
    if run.early_stopping is not None:
        numbers["earlyStopping"] = run.early_stopping.numbers()
        tensors |= {f"{_BEST}{name}": best for name, best in run.early_stopping.best.items()}
    return State(step, tensors, numbers)


def restore(run: Run, state: State) -> None:
    """Restore a run to a state, bit-equal.

    Raises:
        KeyError: the state lacks weights of this run.
    """
    with torch.no_grad():
        for name, weight in trainable_parameters(run.model).items():
            weight.copy_(state.tensors[f"{_WEIGHT}{name}"])
    moments = {int(number): dict(values) for number, values in state.numbers["moments"].items()}
    for name, tensor in _below(_MOMENT, state).items():
        number, _, key = name.partition("/")
        moments.setdefault(int(number), {})[key] = tensor
    groups = run.optimizer.state_dict()["param_groups"]
    run.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    run.precision.load_state_dict(state.numbers["precision"])
    if run.early_stopping is not None:
        run.early_stopping.resume(state.numbers["earlyStopping"], _below(_BEST, state))


def _below(prefix: str, state: State) -> dict[str, Tensor]:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state.tensors.items()
        if name.startswith(prefix)
    }
