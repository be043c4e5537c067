"""The metric that early stopping and interpolation go by, on the validation split."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.artifact.models import predict
from springtide_trainer.tasks.metrics.statistic import EncodedRows, whole

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from springtide_trainer.artifact.joined_tokens import TokenRows
    from springtide_trainer.processes import Processes
    from springtide_trainer.tasks.task import Task
    from springtide_trainer.training.rows.training_rows import TrainingRows


def validate(
    task: Task,
    model: PreTrainedModel,
    rows: TrainingRows,
    *,
    batch_size: int,
    metric: str,
    processes: Processes,
) -> float:
    """Return a metric on the validation split, which several processes score together.

    Args:
        task: The task.
        model: The model.
        rows: The rows, with the split.
        batch_size: Rows of a forward pass.
        metric: Name of the metric.
        processes: They share the rows.
    """
    split = rows.validation

    def scored(tokens: TokenRows, chosen: NDArray[np.int64]) -> NDArray[np.float32]:
        return predict(task, model, tokens, rows=chosen, batch_size=batch_size, processes=processes)

    scores = scored(rows.examples.tokens, split)
    if (documents := rows.examples.documents) is not None:
        scores = documents.ranks(scores, split, scored)
    groups = rows.examples.groups
    encoded = EncodedRows(
        rows.examples.labels[split],
        np.arange(len(split)),
        None if groups is None else np.unique(groups[split], return_inverse=True)[1],
    )
    return processes.from_first(whole(task.statistic(metric, encoded, scores, once=True), encoded))
