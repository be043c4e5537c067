"""The frozen training rows as examples: tokenized, labelled, weighted, split for validation.

No Python object for a row outlives its chunk, so memory hardly grows with the number of rows: the
tokens are mapped files, labels and weights are arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from springtide_api.contract import ExitCode
from springtide_api.retained import PseudoLabelled
from springtide_api.update.task import EARLY_STOPPING_METRIC
from springtide_trainer.artifact.joined_tokens import JoinedTokens
from springtide_trainer.artifact.models import row_tokenizer
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.artifact.tokens import tokenize
from springtide_trainer.data.snapshots.frozen_rows import codes
from springtide_trainer.data.snapshots.group_checks import check_sizes
from springtide_trainer.errors import Refused
from springtide_trainer.tasks.classification_losses import balanced
from springtide_trainer.tasks.embedding import Embedding
from springtide_trainer.tasks.language.causal_lm import CausalLM
from springtide_trainer.tasks.language.masked_tokens import CHOSEN
from springtide_trainer.tasks.language.predicted_tokens import PredictedTokens
from springtide_trainer.tasks.language.response_tokens import MASK
from springtide_trainer.tasks.table import task_of
from springtide_trainer.training.early_stopping import validation_split
from springtide_trainer.training.rows.batches import Examples
from springtide_trainer.training.rows.documents import DocumentRows
from springtide_trainer.training.rows.documents import read as read_documents
from springtide_trainer.training.rows.replay import draw
from springtide_trainer.training.rows.source_rows import SourceRows, no_rows, read
from springtide_trainer.training.rows.token_shards import render
from springtide_trainer.training.rows.units import Units

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from springtide_api.generation.spec import Recipe
    from springtide_api.retained import Replayed
    from springtide_trainer.artifact.joined_tokens import TokenRows
    from springtide_trainer.artifact.tokens import Tokens
    from springtide_trainer.data.snapshots.replay_buffer import Held
    from springtide_trainer.tasks.task import Task
    from springtide_trainer.training.rows.replay import Drawn
    from springtide_trainer.training.rows.token_shards import Shards


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
        read_by_parent: The rows as the parent reads them, where distillation needs them and the
            recipe has another template or length; None elsewhere.
    """

    examples: Examples
    units: Units
    validation: NDArray[np.int64]
    first_replayed: int
    without_loss: int = 0
    replayed: Replayed | None = None
    documents: DocumentRows | None = None
    unlabelled: NDArray[np.int64] = field(default_factory=no_rows)
    pseudo_labels: PseudoLabelled | None = None
    read_by_parent: TokenRows | None = None

    @property
    def replayed_units(self) -> NDArray[np.bool_]:
        """Which units are replayed: bool [units]."""
        found: NDArray[np.bool_] = self.units.rows[self.units.starts[:-1]] >= self.first_replayed
        return found


@dataclass(frozen=True)
class Labelled:
    """What the parent found for the rows without a label.

    Attributes:
        rows: int64 [n], those that it is sure of, ascending.
        labels: int64 [n], their labels.
        known: Labels of the parent: their numbers in the recipe by their names.
        message: Why it labelled none; empty if it could.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    known: dict[str, int]
    message: str = ""


def load(
    folder: Path,
    digest: str,
    recipe: Recipe,
    *,
    parent: Path,
    scratch: Path,
    held: Held | None = None,
    shards: Shards | None = None,
) -> TrainingRows:
    """Read, check and tokenize the training rows of a frozen window, and replayed rows after them.

    Rows without a label are left out: `pseudo_labels.load` adds some of them.

    Args:
        folder: Folder of the frozen rows.
        digest: Digest of the frozen rows.
        recipe: The recipe.
        parent: Folder of the parent's artifact, with the tokenizer.
        scratch: A folder of this pod on the same file system.
        held: Rows that may be replayed. None: nothing is replayed.
        shards: Where the tokens are kept in shards. None: all in the folder of the rows.

    Raises:
        Refused: the rows do not match the digest, a label or weight is not usable, or no row is
            left.
    """
    new = read(folder, digest, recipe, parent=parent, scratch=scratch, shards=shards)
    return arrange(new, None, folder, digest, recipe, parent=parent, held=held)


def arrange(
    new: SourceRows,
    found: Labelled | None,
    folder: Path,
    digest: str,
    recipe: Recipe,
    *,
    parent: Path,
    held: Held | None,
    read_by_parent: TokenRows | None = None,
) -> TrainingRows:
    """Join the rows of a window and replayed ones, and split them for the validation; see `load`.

    Args:
        new: The rows of the window.
        found: What the parent found for those without a label; None: they are left out.
        folder: Folder of the frozen rows.
        digest: Their digest.
        recipe: The recipe.
        parent: Folder of the parent's artifact.
        held: Rows that may be replayed. None: nothing is replayed.
        read_by_parent: The rows of the window as the parent reads them, if that is needed.
    """
    task = task_of(recipe.model)
    sure = no_rows() if found is None else found.rows
    if found is not None:
        new = _with_labels(new, found, recipe)
    drawn = _draw(held, recipe, new_rows=len(new.used) + len(sure), salt=digest)
    both = _with_replayed(new, sure, drawn.table, recipe, parent=parent) if drawn else new
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
        sure = np.intersect1d(sure, unlabelled)
    units, without_loss = _units(both, np.sort(np.append(used[~held_out], sure)), task)
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
        pseudo_labels=None if found is None else _report(found, examples.labels[sure], unlabelled),
        read_by_parent=_read_by_parent(read_by_parent, drawn, parent),
    )
    return _by_class(rows, recipe)


def _with_labels(new: SourceRows, found: Labelled, recipe: Recipe) -> SourceRows:
    """Give rows the labels of the parent, and a part of their weight."""
    options = recipe.training.pseudo_labels
    assert options is not None
    labels, weights = new.examples.labels.copy(), new.examples.weights.copy()
    labels[found.rows] = found.labels
    weights[found.rows] *= np.float32(options.weight)
    return replace(new, examples=replace(new.examples, labels=labels, weights=weights))


def _report(
    found: Labelled, labels: NDArray[np.int64], offered: NDArray[np.int64]
) -> PseudoLabelled:
    """Describe the rows without a label that are trained on, of those that might be."""
    classes = {name: int((labels == number).sum()) for name, number in found.known.items()}
    return PseudoLabelled(
        offered=len(offered), used=len(labels), classes=classes, message=found.message
    )


def _draw(held: Held | None, recipe: Recipe, *, new_rows: int, salt: str) -> Drawn | None:
    retention = recipe.training.retention
    if held is None or retention is None or retention.replay is None:
        return None
    return draw(held, recipe, replay=retention.replay, new_rows=new_rows, salt=salt)


def _with_replayed(
    new: SourceRows, sure: NDArray[np.int64], table: pa.Table, recipe: Recipe, *, parent: Path
) -> SourceRows:
    """Append replayed rows, which all have the mean weight of the new units.

    These are those of the used rows and of the rows `sure`, which the parent labelled.

    A replayed group is another group than a new one of the same name. The tokens of the new rows
    stay where they are.
    """
    if not len(table):
        return new
    before, first = new.examples, len(new.examples.weights)
    task = task_of(recipe.model)
    added = _tokens(table, Preprocess.of(recipe), parent)
    rows = np.sort(np.append(new.used, sure))
    mean = _divided(before, rows).mean(before.weights).mean(dtype=np.float64)
    groups, names = before.groups, new.groups
    if groups is not None and names is not None:
        later, later_names = codes(table["group"])
        groups = np.concatenate([groups, later + len(names)])
        names = pa.concat_arrays([names, later_names])
    examples = Examples(
        JoinedTokens.of(before.tokens, added),
        np.concatenate([before.labels, task.encode(table["label"], "replayed rows")]),
        np.concatenate([before.weights, np.full(len(table), mean, np.float32)]),
        groups,
    )
    entities = new.entities
    if entities is not None:
        names_of = table["entity"].combine_chunks().dictionary_encode()
        entities = pa.chunked_array([entities, names_of]).unify_dictionaries().combine_chunks()
    used = np.append(new.used, np.arange(first, len(examples.weights)))
    return SourceRows(examples, used, entities, names, new.unlabelled)


def _tokens(table: pa.Table, preprocess: Preprocess, parent: Path) -> Tokens:
    return tokenize(row_tokenizer(parent), render(preprocess, table), preprocess.max_length)


def _read_by_parent(new: TokenRows | None, drawn: Drawn | None, parent: Path) -> TokenRows | None:
    """Return all rows as the parent reads them: those of the window, then replayed ones."""
    if new is None or drawn is None or not len(drawn.table):
        return new
    return JoinedTokens.of(new, _tokens(drawn.table, Preprocess.read(parent), parent))


def _by_token(source: SourceRows, task: Task) -> SourceRows:
    """Count the predicted tokens of each row: its part in the loss, and its label."""
    if not isinstance(task, PredictedTokens):
        return source
    # How many tokens of a row are hidden depends on the row alone, which ones also on the epoch.
    counts = source.examples.tokens.sums(MASK if isinstance(task, CausalLM) else CHOSEN)
    examples = replace(source.examples, labels=counts[:, None], terms=np.maximum(counts, 1))
    return replace(source, examples=examples)


def _divided(examples: Examples, rows: NDArray[np.int64]) -> Units:
    """Divide rows into units."""
    groups = examples.groups
    return Units.of_rows(rows) if groups is None else Units.of_groups(rows, groups)


def _units(source: SourceRows, training: NDArray[np.int64], task: Task) -> tuple[Units, int]:
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


def _by_class(rows: TrainingRows, recipe: Recipe) -> TrainingRows:
    """Weigh the training rows by their class, with classification.classWeights."""
    options, examples = recipe.model.classification, rows.examples
    if options is None or options.class_weights is None:
        return rows
    weights = balanced(examples.labels, examples.weights, rows.units.rows)
    return replace(rows, examples=replace(examples, weights=weights))
