"""What a run is built from: what its recipe names, looked up for its rows, parent and device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.errors import Refused
from springtide_trainer.methods.adapter import Continued
from springtide_trainer.methods.table import METHODS
from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.embedding import Embedding
from springtide_trainer.tasks.language.predicted_tokens import PredictedTokens
from springtide_trainer.tasks.table import task_of
from springtide_trainer.training import precision, warm_start
from springtide_trainer.training.retention import distillation
from springtide_trainer.training.rows.units import scored_rows

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import PreTrainedModel

    from springtide_api.contract import RunFile, TrainInput
    from springtide_api.update.retention import Distillation
    from springtide_api.update.training import Hyperparameters, Training
    from springtide_trainer.methods.method import Method
    from springtide_trainer.processes import Processes
    from springtide_trainer.tasks.task import Task
    from springtide_trainer.training.rows.training_rows import TrainingRows


@dataclass(frozen=True)
class Plan:
    """What a run is built from.

    Attributes:
        run: The run file.
        given: Its block `train`.
        parent: Folder of the parent's artifact.
        before: How the parent reads rows, and what it predicts.
        device: The device to train on.
        scratch: A folder of this process.
        processes: This process among those of the run.
        task: What is learnt.
        chosen: The number format.
    """

    run: RunFile
    given: TrainInput
    parent: Path
    before: Preprocess
    device: torch.device
    scratch: Path
    processes: Processes
    task: Task
    chosen: precision.Precision

    @staticmethod
    def of(
        run: RunFile,
        rows: TrainingRows,
        parent: Path,
        *,
        device: torch.device,
        scratch: Path,
        processes: Processes,
    ) -> Plan:
        """Look up what a recipe names; see `session.prepare`.

        Raises:
            Refused: the recipe does not fit the parent or the hardware.
        """
        if run.train is None:
            raise Refused("InvalidRunFile", "stage train needs the block train in run.json")
        labels, before = rows.examples.labels[rows.units.rows], Preprocess.read(parent)
        task = task_of(run.recipe.model).continued(before, labels)
        _check_options(task, run.recipe.training, processes)
        return Plan(
            run=run,
            given=run.train,
            parent=parent,
            before=before,
            device=device,
            scratch=scratch,
            processes=processes,
            task=task,
            chosen=precision.resolve(run.recipe.training.hyperparameters.precision, device),
        )

    @property
    def training(self) -> Training:
        """How the recipe trains."""
        return self.run.recipe.training

    @property
    def options(self) -> Hyperparameters:
        """Optimizer settings."""
        return self.training.hyperparameters

    @property
    def method(self) -> Method:
        """Which parameters are trained."""
        return METHODS[self.training.method.type]

    @property
    def distilled(self) -> Distillation | None:
        """What the parent's outputs teach; None without."""
        return distillation.wanted(self.training.retention, seeded=self.given.seeded_head)

    @property
    def scored_rows(self) -> int:
        """Rows of a pass without gradients."""
        return scored_rows(self.options.batch_size, self.given.batch_divisor)

    def load(self) -> PreTrainedModel:
        """Load the parent's weights, prepared for the training."""
        return warm_start.load(
            self.parent,
            self.training,
            task=self.task,
            method=self.method,
            salt=self.given.data.digest,
            continued=Continued.of(self.given.adapter),
        )


def _check_options(task: Task, training: Training, processes: Processes) -> None:
    """Refuse what a task is not trained with."""
    robust, kept, wrong = training.robustness, training.retention, ""
    both = isinstance(task, Embedding) and task.trains_documents
    if training.unlabelled and type(task) is not Classification:
        wrong = "unlabelled"
    if isinstance(task, Embedding | PredictedTokens) and training.parallelism.type == "FSDP":
        wrong = "parallelism.type"
    if isinstance(task, PredictedTokens) and robust and robust.augmentation:
        wrong = "robustness.augmentation"
    if both and robust and robust.adversarial:
        wrong = "robustness.adversarial"
    if isinstance(task, Embedding | PredictedTokens) and kept and (kept.distillation or kept.ewc):
        wrong = f"retention.{'distillation' if kept.distillation else 'ewc'}"
    if both and processes.count > 1:
        wrong = "compute.gpusPerNode"
    if wrong:
        name = type(task).__name__ + (" with trainTower Both" if both else "")
        value = {"parallelism.type": " FSDP", "compute.gpusPerNode": " above 1"}.get(wrong, "")
        message = f"task {name} is not trained with {wrong}{value}; change one of them"
        raise Refused("UnsupportedOption", message, f"spec.training.{wrong}")
