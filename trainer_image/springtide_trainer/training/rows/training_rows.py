"""The frozen training rows as examples: tokenized, labelled, weighted, split for validation.

No Python object for a row outlives its chunk, so memory hardly grows with the number of rows: the
tokens are mapped files, labels and weights are arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from springtide_api.contract import ExitCode
from springtide_api.update.task import EARLY_STOPPING_METRIC
from springtide_trainer.artifact import token_cache
from springtide_trainer.artifact.joined_tokens import JoinedTokens
from springtide_trainer.artifact.models import row_tokenizer
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.artifact.tokens import CHUNK, tokenize
from springtide_trainer.data.snapshots.frozen_rows import (
    codes,
    input_columns,
    inputs,
    read_chunks,
    verify,
)
from springtide_trainer.data.snapshots.group_checks import check_sizes
from springtide_trainer.data.snapshots.row_checks import NO_LABEL
from springtide_trainer.errors import Refused
from springtide_trainer.tasks.classification_losses import balanced
from springtide_trainer.tasks.embedding import Embedding
from springtide_trainer.tasks.language.causal_lm import CausalLM
from springtide_trainer.tasks.language.masked_lm import MaskedLM
from springtide_trainer.tasks.language.masked_tokens import CHOSEN
from springtide_trainer.tasks.language.response_tokens import MASK
from springtide_trainer.tasks.table import task_of
from springtide_trainer.training.early_stopping import validation_split
from springtide_trainer.training.rows.batches import Examples
from springtide_trainer.training.rows.documents import DocumentRows
from springtide_trainer.training.rows.documents import read as read_documents
from springtide_trainer.training.rows.replay import draw
from springtide_trainer.training.rows.units import Units

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import Any

    from numpy.typing import NDArray

    from springtide_api.generation.spec import Recipe
    from springtide_api.retained import PseudoLabelled, Replayed
    from springtide_trainer.artifact.preprocess import Pair
    from springtide_trainer.artifact.tokens import Tokens
    from springtide_trainer.data.snapshots.replay_buffer import Held
    from springtide_trainer.tasks.task import Labels, Task
    from springtide_trainer.training.rows.replay import Drawn

_WEIGHT = "spec.data.source.columns.weight"
UNKNOWN = -1
"""The encoded label of a row without one."""


def _none() -> NDArray[np.int64]:
    return np.empty(0, np.int64)


@dataclass(frozen=True)
class TrainingRows:
    """The training rows of a window.

    Attributes:
        examples: All rows.
        units: The rows to train on, divided into units: rows or groups.
        validation: int64, indices of the validation split; empty without early stopping. It is
            cut by entity over new and replayed rows together.
        first_replayed: Index of the first row that is replayed; all later ones are too.
        without_loss: Training groups that were dropped, because all their rows have one label.
        replayed: What was replayed; None without replay.
        documents: Query and document of each row; None for a task without documents.
        unlabelled: int64, indices of the rows without a label that may be trained on once they
            have one; no row of an entity in the validation split.
        pseudo_labels: What the parent labelled; None without pseudo-labels.
    """

    examples: Examples
    units: Units
    validation: NDArray[np.int64]
    first_replayed: int
    without_loss: int = 0
    replayed: Replayed | None = None
    documents: DocumentRows | None = None
    unlabelled: NDArray[np.int64] = field(default_factory=_none)
    pseudo_labels: PseudoLabelled | None = None

    @property
    def replayed_units(self) -> NDArray[np.bool_]:
        """Which units are replayed: bool [units]."""
        found: NDArray[np.bool_] = self.units.rows[self.units.starts[:-1]] >= self.first_replayed
        return found


@dataclass(frozen=True)
class _Source:
    """Rows that are used: indices of examples, and the names of all entities and groups.

    Rows without a label are counted apart.
    """

    examples: Examples
    used: NDArray[np.int64]
    entities: pa.DictionaryArray | None
    groups: pa.Array | None
    unlabelled: NDArray[np.int64] = field(default_factory=_none)


def load(
    folder: Path,
    digest: str,
    recipe: Recipe,
    *,
    parent: Path,
    scratch: Path,
    held: Held | None = None,
) -> TrainingRows:
    """Read, check and tokenize the training rows of a frozen window, and replayed rows after them.

    Skips rows of weight 0; for a task with groups, groups whose rows all have weight 0. Rows
    without a label are not among those to train on: `pseudo_labels` adds some of them.

    Args:
        folder: Folder of the frozen rows, in which their tokens are kept.
        digest: Digest of the frozen rows.
        recipe: The recipe.
        parent: Folder of the parent's artifact, with the tokenizer.
        scratch: A folder of this pod on the same file system.
        held: Rows that may be replayed. None: nothing is replayed.

    Raises:
        Refused: the rows do not match the digest, a label or weight is not usable, or no row is
            left.
    """
    verify(folder, digest)
    task = task_of(recipe.model)
    new = _new(folder, digest, recipe, parent=parent, scratch=scratch)
    drawn = _draw(held, recipe, new_rows=len(new.used), salt=digest)
    both = _with_replayed(new, drawn.table, recipe, parent=parent) if drawn else new
    both = _by_token(both, task)
    examples, used, unlabelled = both.examples, both.used, both.unlabelled
    held_out = np.zeros(len(used), dtype=bool)
    if (stopping := recipe.training.early_stopping) and both.entities is not None:
        entities = both.entities.take(pa.array(used))
        fraction = float(stopping.validation_fraction)
        held_out = validation_split(entities, fraction, manifest=digest)
        metric = stopping.metric or EARLY_STOPPING_METRIC[recipe.model.task]
        task.check_validation(metric, examples.labels[used[held_out]])
        entity = both.entities.indices.to_numpy()
        unlabelled = unlabelled[~np.isin(entity[unlabelled], entity[used[held_out]])]
    units, without_loss = _units(both, used[~held_out], task)
    documents = None
    if isinstance(task, Embedding):
        documents = read_documents(
            folder,
            Preprocess.of(recipe),
            identity=examples.labels,
            replayed=drawn.table if drawn else None,
            parent=parent,
        )
    rows = TrainingRows(
        examples,
        units,
        used[held_out],
        first_replayed=len(new.examples.weights),
        without_loss=without_loss,
        replayed=drawn.report if drawn else None,
        documents=documents,
        unlabelled=unlabelled,
    )
    # With pseudo-labels the rows of a class are not known yet.
    return rows if recipe.training.pseudo_labels else by_class(rows, recipe)


def _new(folder: Path, digest: str, recipe: Recipe, *, parent: Path, scratch: Path) -> _Source:
    """Read the rows of the window."""
    weights = _weights(folder)
    preprocess, task = Preprocess.of(recipe), task_of(recipe.model)
    groups = _names(folder, "group") if task.grouping else None
    used = np.flatnonzero(weights > 0 if groups is None else _weighted(groups, weights))
    labels = _labels(folder, task, unlabelled=recipe.training.pseudo_labels is not None)
    unlabelled = _none()
    if recipe.training.pseudo_labels:
        unlabelled, used = used[labels[used] == UNKNOWN], used[labels[used] != UNKNOWN]
    if len(used) == 0:
        message = f"{folder} has 0 training rows with a weight greater than 0; at least 1 is needed"
        raise Refused("NotEnoughData", message, code=ExitCode.TOO_LITTLE_DATA)
    tokens = _tokens(folder, digest, preprocess, parent=parent, scratch=scratch)
    examples = Examples(tokens, labels, weights, None if groups is None else _codes(groups))
    return _Source(
        examples,
        used,
        _names(folder, "entity") if recipe.training.early_stopping else None,
        None if groups is None else groups.dictionary,
        unlabelled,
    )


def _draw(held: Held | None, recipe: Recipe, *, new_rows: int, salt: str) -> Drawn | None:
    retention = recipe.training.retention
    if held is None or retention is None or retention.replay is None:
        return None
    return draw(held, recipe, replay=retention.replay, new_rows=new_rows, salt=salt)


def _with_replayed(new: _Source, table: pa.Table, recipe: Recipe, *, parent: Path) -> _Source:
    """Append replayed rows, which all have the mean weight of the new units.

    A replayed group is another group than a new one of the same name. The tokens of the new rows
    stay where they are.
    """
    if not len(table):
        return new
    before, first = new.examples, len(new.examples.weights)
    preprocess, task = Preprocess.of(recipe), task_of(recipe.model)
    tokens = tokenize(row_tokenizer(parent), _render(preprocess, table), preprocess.max_length)
    mean = _divided(before, new.used).mean(before.weights).mean(dtype=np.float64)
    groups, names = before.groups, new.groups
    if groups is not None and names is not None:
        later, later_names = codes(table["group"])
        groups = np.concatenate([groups, later + len(names)])
        names = pa.concat_arrays([names, later_names])
    examples = Examples(
        JoinedTokens(before.tokens, tokens),
        np.concatenate([before.labels, task.encode(table["label"], "replayed rows")]),
        np.concatenate([before.weights, np.full(len(table), mean, np.float32)]),
        groups,
    )
    entities = new.entities
    if entities is not None:
        added = table["entity"].combine_chunks().dictionary_encode()
        entities = pa.chunked_array([entities, added]).unify_dictionaries().combine_chunks()
    used = np.append(new.used, np.arange(first, len(examples.weights)))
    return _Source(examples, used, entities, names, new.unlabelled)


def _by_token(source: _Source, task: Task) -> _Source:
    """Count the predicted tokens of each row: its part in the loss, and its label."""
    if not isinstance(task, CausalLM | MaskedLM):
        return source
    # How many tokens of a row are hidden depends on the row alone, which ones also on the epoch.
    counts = source.examples.tokens.sums(MASK if isinstance(task, CausalLM) else CHOSEN)
    examples = replace(source.examples, labels=counts[:, None], terms=np.maximum(counts, 1))
    return replace(source, examples=examples)


def _divided(examples: Examples, rows: NDArray[np.int64]) -> Units:
    """Divide rows into units."""
    groups = examples.groups
    return Units.of_rows(rows) if groups is None else Units.of_groups(rows, groups)


def _units(source: _Source, training: NDArray[np.int64], task: Task) -> tuple[Units, int]:
    """Divide the training rows into units; count the groups that are dropped: they have no loss."""
    found, by = _divided(source.examples, training), task.grouping
    if source.examples.groups is None or by is None:
        return found, 0
    check_sizes(np.bincount(source.examples.groups[training]), source.groups, by.max_rows)
    units = found.with_order(source.examples.labels) if by.compares else found
    if not len(units):
        raise Refused(
            "NotEnoughData",
            f"0 of {len(found):,} training groups have rows of different gains, and this "
            "model.ranking.loss compares the rows of a group; collect more data, or set it to "
            "Pointwise",
            code=ExitCode.TOO_LITTLE_DATA,
        )
    return units, len(found) - len(units)


def by_class(rows: TrainingRows, recipe: Recipe) -> TrainingRows:
    """Weigh the training rows by their class, with classification.classWeights."""
    options, examples = recipe.model.classification, rows.examples
    if options is None or options.class_weights is None:
        return rows
    weights = balanced(examples.labels, examples.weights, rows.units.rows)
    return replace(rows, examples=replace(examples, weights=weights))


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
        columns = input_columns(preprocess.inputs) + ["label"] * preprocess.reads_labels
        for batch in read_chunks(folder, "train", columns, CHUNK):
            yield _render(preprocess, batch)

    key = token_cache.Key.of(f"{digest}/train", preprocess, parent)
    tokenizer = row_tokenizer(parent)
    return token_cache.cached(tokenizer, chunks, key=key, rows=folder, scratch=scratch)


def _render(preprocess: Preprocess, rows: pa.Table | pa.RecordBatch) -> list[Pair]:
    labels = rows["label"].to_pylist() if preprocess.reads_labels else None
    return preprocess.render(inputs(rows), labels)


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
