"""The parts of a run that change from step to step, captured for a checkpoint and restored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from springtide_trainer.errors import Refused
from springtide_trainer.training.checkpoints import State
from springtide_trainer.training.optimizer import trainable_parameters

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import nn

    from springtide_api.contract import TrainInput
    from springtide_api.generation.spec import Recipe
    from springtide_trainer.methods.method import EachStep
    from springtide_trainer.optimise.gradual_pruning import GradualPruning
    from springtide_trainer.training.early_stopping import EarlyStopping
    from springtide_trainer.training.precision import Precision
    from springtide_trainer.training.robustness.averaging import Averaging

FORMAT = 3
"""Version of checkpoint contents and row order: checkpoints of another version are not used."""


class Stateful(Protocol):
    """A part of a run that a checkpoint holds."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state: tensors, which are not copied, and JSON values, by name."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state, bit-equal."""


@dataclass(frozen=True)
class TrainedWeights:
    """The parameters that are not frozen, as a part of a run."""

    model: nn.Module

    def state_dict(self) -> dict[str, Tensor]:
        """Return the parameters by name."""
        return trainable_parameters(self.model)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Copy the parameters into the model.

        Raises:
            Refused: the state has other parameters than the model.
        """
        weights = trainable_parameters(self.model)
        _check_names("weights of the checkpoint", expected=weights, found=state)
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(state[name])


@dataclass(frozen=True)
class OptimizerState:
    """The moments of an optimizer, as a part of a run. Its groups are those of the recipe."""

    optimizer: torch.optim.Optimizer

    def state_dict(self) -> dict[str, Any]:
        """Return each moment of each parameter as `<number>/<name>`."""
        moments = self.optimizer.state_dict()["state"]
        return {
            f"{number}/{name}": value
            for number, values in moments.items()
            for name, value in values.items()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the moments."""
        moments: dict[int, dict[str, Any]] = {}
        for key, value in state.items():
            number, _, name = key.partition("/")
            moments.setdefault(int(number), {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})


@dataclass(frozen=True)
class Run:
    """The parts of a run that change from step to step.

    The order of rows, the learning rate and dropout are functions of the step and not stored.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    precision: Precision
    early_stopping: EarlyStopping | None = None
    averaging: Averaging | None = None
    method: EachStep | None = None
    pruning: GradualPruning | None = None
    """Its state are the zeros among the weights."""

    @property
    def parts(self) -> dict[str, Stateful]:
        """The parts that a checkpoint holds, by name."""
        parts: dict[str, Stateful] = {
            "weights": TrainedWeights(self.model),
            "optimizer": OptimizerState(self.optimizer),
            "precision": self.precision,
        }
        if self.early_stopping is not None:
            parts["earlyStopping"] = self.early_stopping
        if self.averaging is not None:
            parts["averaging"] = self.averaging
        if self.method is not None:
            parts["method"] = self.method
        return parts

    def begin(self) -> None:
        """Read what follows from the weights, once they are those of a checkpoint or parent."""
        if self.pruning is not None:
            self.pruning.begin()

    def observe(self, step: int, loss: float) -> None:
        """Let method and pruning change the weights after a step, then average them."""
        if self.method is not None:
            self.method.observe(step, loss)
        if self.pruning is not None:
            self.pruning.observe(step, loss)
        if self.averaging is not None:
            self.averaging.observe(step, loss)

    def finish(self) -> None:
        """Load the weights that the run is for: the average, the pruned, or the best ones."""
        if self.averaging is not None:
            self.averaging.load()
        if self.pruning is not None:
            self.pruning.mask()  # an average has a part of what was zero only later
        if self.early_stopping is not None:
            self.early_stopping.restore_best()


def identity(recipe: Recipe, given: TrainInput, *, pseudo_labels: str = "") -> dict[str, Any]:
    """Return what identifies a run: checkpoints of another identity are not used.

    `batchDivisor` is not part of it, because the rows of a step do not depend on it. Those that the
    parent labels may, where it is as good as sure of a row: `pseudo_labels` is their digest.
    """
    training, model = recipe.training, recipe.model.plain()
    optional: dict[str, Any] = {}
    if training.retention and training.retention.replay:
        optional["replay"] = training.retention.replay.plain()
        optional["buffer"] = given.buffer.digest if given.buffer else None
        optional["quarantined"] = sorted(given.quarantined)
    if training.retention and training.retention.distillation:
        optional["distillation"] = training.retention.distillation.plain()
        optional["seededHead"] = given.seeded_head
    if training.retention and training.retention.ewc:
        optional["ewc"] = training.retention.ewc.plain()
        optional["fisher"] = given.fisher.digest if given.fisher else None
    if training.robustness:
        optional["robustness"] = training.robustness.plain()
    if training.pruning:
        optional["pruning"] = training.pruning.plain()
    if training.unlabelled:
        optional["unlabelled"] = training.unlabelled.plain()
        optional["seededHead"] = given.seeded_head
        optional["pseudoLabels"] = pseudo_labels
    if given.adapter:
        optional["adapter"] = given.adapter.digest
    return {
        **optional,
        "format": FORMAT,
        "model": {name: value for name, value in model.items() if name != "initial"},
        "columns": recipe.data.source.columns.plain(),
        "method": training.method.decisive(),
        "hyperparameters": training.resolved().hyperparameters.plain(),
        "earlyStopping": training.early_stopping.plain() if training.early_stopping else None,
        "data": given.data.digest,
        "parent": given.parent.digest,
    }


def capture(run: Run, step: int) -> State:
    """Return the state after a step. The tensors are not copied."""
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for part, stateful in run.parts.items():
        numbers[part] = {}
        for name, value in stateful.state_dict().items():
            if isinstance(value, Tensor):
                tensors[f"{part}/{name}"] = value
            else:
                numbers[part][name] = value
    return State(step, tensors, numbers)


def restore(run: Run, state: State) -> None:
    """Restore a run to a state, bit-equal.

    Raises:
        Refused: the state has other parts than the run.
    """
    held = {part: dict(values) for part, values in state.numbers.items()}
    for key, tensor in state.tensors.items():
        part, _, name = key.partition("/")
        held.setdefault(part, {})[name] = tensor
    parts = run.parts
    _check_names(f"checkpoint of step {state.step:,}", expected=parts, found=held)
    for part, stateful in parts.items():
        stateful.load_state_dict(held[part])


def _check_names(what: str, *, expected: Collection[str], found: Collection[str]) -> None:
    """Refuse a state with a part missing or a part too many."""
    missing, unknown = sorted({*expected} - {*found}), sorted({*found} - {*expected})
    wrong = []
    if missing:
        wrong.append(f"{len(missing)} of {len(expected)} parts missing ({_few(missing)})")
    if unknown:
        wrong.append(f"{len(unknown)} unknown ({_few(unknown)})")
    if wrong:
        raise Refused(
            "CheckpointMismatch",
            f"{what}: {', '.join(wrong)}; use the trainer image that saved it, or delete the "
            "checkpoints of this generation to train from the first step",
        )


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
