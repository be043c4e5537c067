"""The frozen training rows as examples: tokenized, labelled, weighted, split for validation.

No Python object for a row outlives its chunk, so memory hardly grows with the number of rows: the
tokens are mapped files, labels and weights are arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from springtide_api.contract import ExitCode
from springtide_api.update.task import EARLY_STOPPING_METRIC
from springtide_trainer.artifact import token_cache
from springtide_trainer.artifact.models import load_tokenizer
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.artifact.tokens import CHUNK
from springtide_trainer.data.snapshots.frozen_rows import (
    input_columns,
    inputs,
    read_chunks,
    verify,
)
from springtide_trainer.data.snapshots.group_checks import check_sizes
from springtide_trainer.errors import Refused
from springtide_trainer.tasks.table import task_of
from springtide_trainer.training.early_stopping import validation_split
from springtide_trainer.training.rows.batches import Examples
from springtide_trainer.training.rows.units import Units

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from springtide_api.generation.spec import Recipe
    from springtide_trainer.artifact.preprocess import Pair
    from springtide_trainer.artifact.tokens import Tokens
    from springtide_trainer.tasks.task import Grouping, Labels

_WEIGHT = "spec.data.source.columns.weight"


@dataclass(frozen=True)
class TrainingRows:
    """The training rows of a window.

    Attributes:
        examples: All rows.
        units: The rows to train on, divided into units: rows or groups.
        validation: int64, indices of the validation split; empty without early stopping.
        without_loss: Training groups that were dropped, because all their rows have one label.
    """

    examples: Examples
    units: Units
    validation: NDArray[np.int64]
    without_loss: int = 0


def load(folder: Path, digest: str, recipe: Recipe, *, parent: Path, scratch: Path) -> TrainingRows:
    """Read, check and tokenize the training rows of a frozen window.

    Skips rows of weight 0; for a task with groups, groups whose rows all have weight 0.

    Args:
        folder: Folder of the frozen rows, in which their tokens are kept.
        digest: Digest of the frozen rows.
        recipe: The recipe.
        parent: Folder of the parent's artifact, with the tokenizer.
        scratch: A folder of this pod on the same file system.

    Raises:
        Refused: the rows do not match the digest, a label or weight is not usable, or no row is
            left.
    """
    verify(folder, digest)
    weights = _weights(folder)
    preprocess, task = Preprocess.of(recipe), task_of(recipe.model)
    groups = _names(folder, "group") if task.grouping else None
    used = np.flatnonzero(weights > 0 if groups is None else _weighted(groups, weights))
    if len(used) == 0:
        message = f"{folder} has 0 training rows with a weight greater than 0; at least 1 is needed"
        raise Refused("NotEnoughData", message, code=ExitCode.TOO_LITTLE_DATA)
    tokens = _tokens(folder, digest, preprocess, parent=parent, scratch=scratch)
    examples = Examples(
        tokens, _labels(folder, task), weights, None if groups is None else _codes(groups)
    )
    held_out = np.zeros(len(used), dtype=bool)
    if stopping := recipe.training.early_stopping:
        entities = _names(folder, "entity").take(pa.array(used))
        fraction = float(stopping.validation_fraction)
        held_out = validation_split(entities, fraction, manifest=digest)
        metric = stopping.metric or EARLY_STOPPING_METRIC[recipe.model.task]
        task.check_validation(metric, examples.labels[used[held_out]])
    if groups is None or task.grouping is None:
        return TrainingRows(examples, Units.of_rows(used[~held_out]), used[held_out])
    units, without_loss = _groups(examples, used[~held_out], groups, task.grouping)
    return TrainingRows(examples, units, used[held_out], without_loss)


def _groups(
    examples: Examples, training: NDArray[np.int64], groups: pa.DictionaryArray, by: Grouping
) -> tuple[Units, int]:
    """Divide the training rows into groups; count those that are dropped: they have no loss."""
    codes = _codes(groups)
    check_sizes(np.bincount(codes[training]), groups.dictionary, by.max_rows)
    found = Units.of_groups(training, codes)
    units = found.with_order(examples.labels) if by.compares else found
    if not len(units):
        raise Refused(
            "NotEnoughData",
            f"0 of {len(found):,} training groups have rows of different gains, and this "
            "model.ranking.loss compares the rows of a group; collect more data, or set it to "
            "Pointwise",
            code=ExitCode.TOO_LITTLE_DATA,
        )
    return units, len(found) - len(units)


def _weighted(groups: pa.DictionaryArray, weights: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mark the rows of the groups with at least one weight greater than 0."""
    codes = _codes(groups)
    found: NDArray[np.bool_] = (np.bincount(codes, weights=weights) > 0)[codes]
    return found


def _codes(names: pa.DictionaryArray) -> NDArray[np.int64]:
    return np.asarray(names.indices.to_numpy(), dtype=np.int64)


def _tokens(
    folder: Path, digest: str, preprocess: Preprocess, *, parent: Path, scratch: Path
) -> Tokens:
    def chunks() -> Iterator[list[Pair]]:
        for batch in read_chunks(folder, "train", input_columns(preprocess.inputs), CHUNK):
            yield preprocess.render(inputs(batch))

    key = token_cache.Key.of(f"{digest}/train", preprocess, parent)
    tokenizer = load_tokenizer(parent)
    return token_cache.cached(tokenizer, chunks, key=key, rows=folder, scratch=scratch)


def _labels(folder: Path, task: Labels) -> NDArray[Any]:
    """Encode the labels: [rows, ...]."""
    columns = (batch.column("label") for batch in read_chunks(folder, "train", ["label"]))
    return _joined(task.encode(pa.chunked_array([each]), "training rows") for each in columns)


def _names(folder: Path, column: str) -> pa.DictionaryArray:
    """Read the entity or group of each row as a code and the names of the codes."""
    chunks = read_chunks(folder, "train", [column])
    encoded = pa.chunked_array([each.column(column).dictionary_encode() for each in chunks])
    return encoded.unify_dictionaries().combine_chunks()


def _joined(arrays: Iterable[NDArray[Any]]) -> NDArray[Any]:
    found = list(arrays)
    return np.concatenate(found) if found else np.empty(0, np.float32)


def _weights(folder: Path) -> NDArray[np.float32]:
    """Read the weight of each row; without the column all are 1."""
    made: list[NDArray[np.float32]] = []
    first = 0
    for batch in read_chunks(folder, "train", ["label", "weight"]):
        made.append(_weights_of(batch, first))
        first += len(batch)
    return _joined(made)


def _weights_of(batch: pa.RecordBatch, first: int) -> NDArray[np.float32]:
    if "weight" not in batch.schema.names:
        return np.ones(len(batch), dtype=np.float32)
    weights = np.asarray(batch["weight"].to_numpy(zero_copy_only=False), dtype=np.float32)
    usable = np.isfinite(weights) & (weights >= 0)
    if not usable.all():
        row = int(np.flatnonzero(~usable)[0])
        message = (
            f"training row {first + row} has weight {weights[row]}; weights must be finite and >= 0"
        )
        raise Refused("InvalidWeight", message, _WEIGHT)
    return weights
