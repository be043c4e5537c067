"""Distillation: a candidate also learns the outputs that its parent has for the training rows.

The outputs are recorded before the first step, when the model still has the parent's weights, as in
Learning without Forgetting (Li and Hoiem 2016). So no second model is in memory, and a row costs
one forward pass, whatever the number of epochs.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from springtide_api.update.retention import TEMPERATURE
from springtide_trainer.artifact.models import predict
from springtide_trainer.tasks.ranking_losses import sums
from springtide_trainer.training.retention.divergences import DIVERGENCES

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from springtide_api.update.retention import Distillation as Options
    from springtide_api.update.retention import Retention
    from springtide_trainer.processes import Processes
    from springtide_trainer.tasks.task import Batch, Task
    from springtide_trainer.training.loop import Objective
    from springtide_trainer.training.rows.training_rows import TrainingRows


def wanted(retention: Retention | None, *, seeded: bool) -> Options | None:
    """Return what a recipe asks for; None without, and if the parent's head is untrained."""
    return None if retention is None or seeded else retention.distillation


def taught(
    rows: TrainingRows,
    task: Task,
    model: PreTrainedModel,
    *,
    outputs: int,
    batch_size: int,
    processes: Processes,
) -> TrainingRows:
    """Record the parent's logits for the training rows: in FP32, without dropout and gradients.

    The parent reads them by its own template and length, as where it is served.

    Args:
        rows: The rows; those of the validation split are not learnt and have none.
        task: The task.
        model: The model before its first step.
        outputs: Number of the parent's outputs, the first ones; those of appended labels are not
            the parent's.
        batch_size: Rows of a forward pass.
        processes: They share the rows.
    """
    learnt = rows.units.rows
    logits = predict(
        _Logits(task.width),
        model,
        rows.examples.tokens if rows.read_by_parent is None else rows.read_by_parent,
        rows=learnt,
        batch_size=batch_size,
        processes=processes,
    )
    held = np.zeros((len(rows.examples.weights), outputs), np.float32)
    held[learnt] = logits[:, :outputs]
    return replace(rows, examples=replace(rows.examples, taught=held))


def of(options: Options | None, task: Task) -> Objective:
    """Return the loss of a batch, with distillation if it is wanted."""
    return task.objective if options is None else Distillation(options, task)


class Distillation:
    """The loss of a batch, plus weight times the divergence of its outputs from the parent's.

    The divergence of a unit has the unit's factor in the loss. Outputs of labels that the parent
    does not have are left out of it.

    Args:
        options: Weight and temperature.
        task: The task.
    """

    def __init__(self, options: Options, task: Task) -> None:
        self._task = task
        self._weight = float(options.weight)
        self._temperature = float(options.temperature or TEMPERATURE)
        self._divergence = DIVERGENCES[type(task)]

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the sum of both."""
        assert batch.taught is not None
        logits = model(**batch.inputs).logits
        known = logits.float()[:, : batch.taught.shape[1]]
        far = self._divergence(known, batch.taught, self._temperature, batch.groups)
        factors = sums(batch.weights, batch.groups) if batch.groups else batch.weights
        return self._task.loss_of(logits, batch) + self._weight * (far * factors).sum()


@dataclass(frozen=True)
class _Logits:
    """Scores that are the outputs of the model as they are."""

    width: int

    def predict(self, logits: Tensor) -> Tensor:
        return logits.float()
