"""What a run is at a step, as tensors and numbers, and a run put back to it."""

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
"""Raised with what a checkpoint holds, and with how rows become steps: an older one is not used."""
_WEIGHT, _MOMENT, _BEST = "weight/", "optimizer/", "best/"


@dataclass(frozen=True)
class Run:
    """The parts of a run that change from step to step.

    Order of rows, learning rate and dropout are functions of the step and need no place here.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    precision: Precision
    early_stopping: EarlyStopping | None = None


def capture(run: Run, step: int) -> State:
    """Take the state after a step; the tensors are the run's own, not copies."""
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
    """Put a run back to a state, bit by bit.

    Raises:
        KeyError: the state has not the weights of this run.
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
