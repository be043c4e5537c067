"""The metric that early stopping and interpolation go by, on the validation split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.artifact.models import predict
from springtide_trainer.tasks.metrics.statistic import EncodedRows, whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from springtide_api.update.training import Hyperparameters
    from springtide_trainer.processes import Processes
    from springtide_trainer.tasks.task import Task
    from springtide_trainer.training.rows.training_rows import TrainingRows


def validate(
    task: Task,
    model: PreTrainedModel,
    rows: TrainingRows,
    *,
    options: Hyperparameters,
    metric: str,
    processes: Processes,
) -> float:
    """Return a metric on the validation split, which several processes score together."""
    split, size, tokens = rows.validation, options.batch_size, rows.examples.tokens
    scores = predict(task, model, tokens, rows=split, batch_size=size, processes=processes)
    groups = rows.examples.groups
    encoded = EncodedRows(
        rows.examples.labels[split],
        np.arange(len(split)),
        None if groups is None else np.unique(groups[split], return_inverse=True)[1],
    )
    return processes.from_first(whole(task.statistic(metric, encoded, scores, once=True), encoded))
