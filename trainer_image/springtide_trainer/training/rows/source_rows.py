"""The rows of a frozen window as examples: tokenized, labelled, weighted.

No Python object for a row outlives its chunk, so memory hardly grows with the number of rows: the
tokens are mapped files, labels and weights are arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from springtide_api.contract import ExitCode
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.data.snapshots.frozen_rows import read_chunks, verify
from springtide_trainer.data.snapshots.row_checks import NO_LABEL
from springtide_trainer.errors import Refused
from springtide_trainer.tasks.table import task_of
from springtide_trainer.training.rows.batches import Examples
from springtide_trainer.training.rows.token_shards import Texts

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from springtide_api.generation.spec import Recipe
    from springtide_trainer.tasks.task import Labels
    from springtide_trainer.training.rows.token_shards import Shards

_WEIGHT = "spec.data.source.columns.weight"
UNKNOWN = -1
"""The encoded label of a row without one."""


def no_rows() -> NDArray[np.int64]:
    """Return indices of no rows."""
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class SourceRows:
    """Rows that are used: indices of examples, and the names of all entities and groups.

    Rows without a label are counted apart.
    """

    examples: Examples
    used: NDArray[np.int64]
    entities: pa.DictionaryArray | None
    groups: pa.Array | None
    unlabelled: NDArray[np.int64] = field(default_factory=no_rows)


def read(
    folder: Path,
    digest: str,
    recipe: Recipe,
    *,
    parent: Path,
    scratch: Path,
    shards: Shards | None = None,
) -> SourceRows:
    """Read the rows of a window; see `training_rows.load`.

    Skips rows of weight 0; for a task with groups, groups whose rows all have weight 0.
    """
    verify(folder, digest)
    weights = _weights(folder)
    task = task_of(recipe.model)
    groups = names(folder, "group") if task.grouping else None
    used = np.flatnonzero(weights > 0 if groups is None else _weighted(groups, weights))
    labels = _labels(folder, task, unlabelled=recipe.training.pseudo_labels is not None)
    unlabelled = no_rows()
    if recipe.training.pseudo_labels:
        unlabelled, used = used[labels[used] == UNKNOWN], used[labels[used] != UNKNOWN]
    if len(used) == 0:
        which = "a label and a weight" if recipe.training.pseudo_labels else "a weight"
        message = f"{folder} has 0 training rows with {which} greater than 0; at least 1 is needed"
        raise Refused("NotEnoughData", message, code=ExitCode.TOO_LITTLE_DATA)
    texts = Texts.of(folder, digest, Preprocess.of(recipe), parent)
    read_by = texts.tokens(scratch, shards)
    examples = Examples(read_by, labels, weights, None if groups is None else codes_of(groups))
    return SourceRows(
        examples,
        used,
        names(folder, "entity") if recipe.training.early_stopping else None,
        None if groups is None else groups.dictionary,
        unlabelled,
    )


def _labels(folder: Path, task: Labels, *, unlabelled: bool) -> NDArray[Any]:
    """Encode the labels: [rows, ...]; UNKNOWN for a row without one, if there may be such rows."""
    columns = (batch.column("label") for batch in read_chunks(folder, "train", ["label"]))
    encode = _encoded if unlabelled else _all_encoded
    return _joined(encode(pa.chunked_array([each]), task) for each in columns)


def _all_encoded(column: pa.ChunkedArray, task: Labels) -> NDArray[Any]:
    return task.encode(column, "training rows")


def _encoded(column: pa.ChunkedArray, task: Labels) -> NDArray[Any]:
    known = pc.not_equal(column, NO_LABEL)
    made = np.full(len(column), UNKNOWN, np.int64)
    made[known.to_numpy()] = _all_encoded(column.filter(known), task)
    return made


def names(folder: Path, column: str) -> pa.DictionaryArray:
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


def _weighted(groups: pa.DictionaryArray, weights: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Mark the rows of the groups with at least one weight greater than 0."""
    codes = codes_of(groups)
    found: NDArray[np.bool_] = (np.bincount(codes, weights=weights) > 0)[codes]
    return found


def codes_of(names: pa.DictionaryArray) -> NDArray[np.int64]:
    """Return the code of each name."""
    return np.asarray(names.indices.to_numpy(), dtype=np.int64)
