"""Scores datasets with all models, in FP32 and in chunks, and reports progress."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from springtide_trainer.data.snapshots.frozen_rows import inputs
from springtide_trainer.evaluation.comparison import Scores
from springtide_trainer.progress import Progress, Reporter

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from springtide_trainer.artifact.models import Scorer
    from springtide_trainer.evaluation.datasets import EvaluationDataset

CHUNK = 1024
BATCH = {"cpu": 32, "cuda": 128}


class RowsScored(Progress):
    """Progress in rows, without a loss."""

    def status(self, step: int, loss: float, now: float) -> dict[str, Any]:
        """Return the status after a number of rows."""
        status = super().status(step, loss, now)
        return status | {"metrics": [{"name": "rows_scored", "value": str(step)}]}


def score_all(
    datasets: Sequence[EvaluationDataset], models: Sequence[Sequence[Scorer]]
) -> list[list[Scores]]:
    """Score every dataset with its models.

    Args:
        datasets: The rows.
        models: The models of each dataset.

    Returns:
        The scores of each model for each dataset, in the given order.
    """
    pairs = list(zip(datasets, models, strict=True))
    total = sum(len(by) * len(each.table) for each, by in pairs if each.table is not None)
    progress = RowsScored(Reporter.of(os.environ), first=0, total=max(total, 1))
    done, found = 0, []
    for dataset, by in pairs:
        row = []
        for model in by:
            row.append(_score(dataset.table, model, progress, done))
            done += len(row[-1].predictions)
        found.append(row)
    return found


def _score(table: pa.Table | None, model: Scorer, progress: Progress, done: int) -> Scores:
    parts = [np.empty((0, len(model.task.outputs)), dtype=np.float32)]
    size = BATCH.get(model.model.device.type, 32)
    for start in range(0, len(table) if table is not None else 0, CHUNK):
        assert table is not None
        chunk = table.slice(start, CHUNK)
        pairs = model.preprocess.render(inputs(chunk))
        parts.append(model.predict(pairs, batch_size=size))
        progress.observe(done + start + len(chunk), float("nan"))
    return Scores(model.task, np.concatenate(parts))
