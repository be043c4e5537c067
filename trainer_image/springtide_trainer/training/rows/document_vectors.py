"""What a training needs to know of its documents before the first step.

Where their model is not trained, each document gets its vector once, in FP32. The vectors are in
memory: 1,536 bytes for each document of 384 dimensions.
"""

from __future__ import annotations

import filecmp
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.artifact.models import move, predict
from springtide_trainer.errors import Refused
from springtide_trainer.tasks.embedding import Embedding
from springtide_trainer.tasks.towers import DOCUMENT_WEIGHTS, QUERY_WEIGHTS
from springtide_trainer.training.rows.documents import Documents

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from springtide_trainer.processes import Processes
    from springtide_trainer.tasks.task import Task
    from springtide_trainer.training.rows.documents import Integers
    from springtide_trainer.training.rows.training_rows import TrainingRows


def with_vectors(
    rows: TrainingRows,
    task: Task,
    parent: Path,
    *,
    step_rows: int,
    batch_size: int,
    device: torch.device,
    processes: Processes,
) -> TrainingRows:
    """Return training rows whose steps have the vectors of their documents, if they have any.

    Args:
        rows: The rows.
        task: The task.
        parent: Folder of the parent's artifact, verified.
        step_rows: Rows of a step.
        batch_size: Rows of a forward pass.
        device: The device to make the vectors on.
        processes: This process among those of the run, which share the documents.
    """
    found = rows.documents
    if found is None or not isinstance(task, Embedding):
        return rows
    count = len(found.tokens.lengths)
    if task.trains_documents:
        _check_one_model(parent)
        vectors = np.empty((count, 0), np.float32)
    else:
        tower = move(task.load_documents(parent), device)
        vectors = predict(
            task,
            tower,
            found.tokens,
            rows=np.arange(count),
            batch_size=batch_size,
            processes=processes,
        )
    trained = rows.units.rows
    pairs = np.unique(np.stack([found.query[trained], found.of_row[trained]], axis=1), axis=0)
    documents = Documents(
        vectors,
        found.tokens,
        log_q(found.of_row[trained], count, step_rows)
        if task.options.log_q
        else np.zeros(count, np.float32),
        found.of_row,
        found.query,
        np.ascontiguousarray(pairs[:, 1]),
        np.searchsorted(pairs[:, 0], np.arange(int(found.query.max()) + 2)),
    )
    return replace(rows, examples=replace(rows.examples, documents=documents))


def _check_one_model(parent: Path) -> None:
    if not filecmp.cmp(parent / QUERY_WEIGHTS, parent / DOCUMENT_WEIGHTS, shallow=False):
        raise Refused(
            "TwoModels",
            f"{parent} has a model of queries and another of documents, and trainTower Both trains "
            "one for both; set it to Query, or create a new IncrementalUpdate",
            "spec.model.embedding.trainTower",
        )


def log_q(of_row: Integers, documents: int, step_rows: int) -> NDArray[np.float32]:
    """Return the logarithm of the chance that a step has a document: float32 [documents].

    It is 1 - (1 - f)^n for a document of a share f of the rows in a step of n rows: the chance of a
    sampled softmax in which each candidate counts once, as TensorFlow's samplers of unique
    candidates compute it.

    Args:
        of_row: int64 [rows], the document of each row that is trained on.
        documents: Number of documents; those without a row that is trained on get 0.
        step_rows: Rows of a step.
    """
    share = np.bincount(of_row, minlength=documents) / len(of_row)
    with np.errstate(divide="ignore"):  # a document of all rows: log(0), a chance of 1
        chance = -np.expm1(min(step_rows, len(of_row)) * np.log1p(-share))
    made: NDArray[np.float32] = np.log(np.where(share > 0, chance, 1.0)).astype(np.float32)
    return made
