"""The frozen training rows as examples: tokenized, labelled, weighted, split for validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from springtide_api.contract import ExitCode
from springtide_api.update.task import EARLY_STOPPING_METRIC
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.artifact.tokens import tokenize
from springtide_trainer.data.snapshots.frozen_rows import inputs, read_rows, verify
from springtide_trainer.errors import Refused
from springtide_trainer.tasks.table import task_of
from springtide_trainer.training.batches import Examples
from springtide_trainer.training.early_stopping import validation_split

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from springtide_api.generation.spec import Recipe

_WEIGHT = "spec.data.source.columns.weight"


@dataclass(frozen=True)
class TrainingRows:
    """The training rows of a window.

    Attributes:
        examples: All rows.
        training: int64, indices of the rows to train on.
        validation: int64, indices of the validation split; empty without early stopping.
    """

    examples: Examples
    training: NDArray[np.int64]
    validation: NDArray[np.int64]


def load(
    folder: Path, digest: str, recipe: Recipe, tokenizer: PreTrainedTokenizerBase
) -> TrainingRows:
    """Read, check and tokenize the training rows of a frozen window. Skips rows of weight 0.

    Raises:
        Refused: the rows do not match the digest, a label or weight is not usable, or no row is
            left.
    """
    verify(folder, digest)
    table = read_rows(folder, "train")
    weights = _weights(table)
    table, weights = table.filter(pa.array(weights > 0)), weights[weights > 0]
    if len(weights) == 0:
        message = f"{folder} has 0 training rows with a weight greater than 0; at least 1 is needed"
        raise Refused("NotEnoughData", message, code=ExitCode.TOO_LITTLE_DATA)
    preprocess, task = Preprocess.of(recipe), task_of(recipe.model)
    pairs = preprocess.render(inputs(table))
    examples = Examples(
        tokens=tokenize(tokenizer, pairs, preprocess.max_length),
        labels=task.encode(table["label"], "training rows"),
        weights=weights,
    )
    held_out = np.zeros(len(weights), dtype=bool)
    if stopping := recipe.training.early_stopping:
        held_out = validation_split(
            table["entity"].to_pylist(), float(stopping.validation_fraction), manifest=digest
        )
        metric = stopping.metric or EARLY_STOPPING_METRIC[recipe.model.task]
        task.check_validation(metric, examples.labels[held_out])
    return TrainingRows(examples, np.flatnonzero(~held_out), np.flatnonzero(held_out))


def _weights(table: pa.Table) -> NDArray[np.float32]:
    if "weight" not in table.column_names:
        return np.ones(table.num_rows, dtype=np.float32)
    weights = np.asarray(table["weight"].to_numpy(zero_copy_only=False), dtype=np.float32)
    usable = np.isfinite(weights) & (weights >= 0)
    if not usable.all():
        row = int(np.flatnonzero(~usable)[0])
        message = f"training row {row} has weight {weights[row]}; weights must be finite and >= 0"
        raise Refused("InvalidWeight", message, _WEIGHT)
    return weights
