"""Pseudo-labels: the parent labels the training rows without a label that it is sure of (Lee 2013).

Its labels are those of its weights before the first step and do not change during the training, so
a resumed run has the same rows. Nothing of them is kept: the next generation labels by its own
parent.
"""

from __future__ import annotations

import hashlib
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from springtide_trainer.artifact.models import move, predict
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.artifact.token_cache import Key
from springtide_trainer.data.snapshots.frozen_rows import FEATURE, columns_of
from springtide_trainer.errors import Refused
from springtide_trainer.processes import ALONE
from springtide_trainer.tasks.table import task_of
from springtide_trainer.training.rows import source_rows, training_rows
from springtide_trainer.training.rows.token_shards import Texts
from springtide_trainer.training.rows.training_rows import Labelled
from springtide_trainer.training.rows.units import scored_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from springtide_api.generation.spec import Recipe
    from springtide_trainer.artifact.joined_tokens import TokenRows
    from springtide_trainer.data.snapshots.replay_buffer import Held
    from springtide_trainer.processes import Processes
    from springtide_trainer.training.rows.source_rows import SourceRows
    from springtide_trainer.training.rows.token_shards import Shards
    from springtide_trainer.training.rows.training_rows import TrainingRows

UNTRAINED = "the parent's head is untrained"
CHUNK = 1 << 16
"""Rows whose probabilities are in memory at a time: of each row only one label is kept."""


@dataclass(frozen=True)
class Parent:
    """The parent that labels rows, and where it does.

    Attributes:
        folder: Folder of its artifact, verified.
        seeded: Its head is untrained: it labels no row.
        device: The device to score on.
        batch_divisor: Divisor of the batch size, after memory ran out.
        kernels: Selects kernels, by the number of tokens of the longest row.
    """

    folder: Path
    seeded: bool
    device: torch.device
    batch_divisor: int = 1
    kernels: Callable[[int], AbstractContextManager[None]] = lambda longest: nullcontext()


def load(
    folder: Path,
    digest: str,
    recipe: Recipe,
    *,
    parent: Parent,
    scratch: Path,
    held: Held | None = None,
    processes: Processes = ALONE,
    shards: Shards | None = None,
) -> TrainingRows:
    """Load training rows, with the rows without a label that the parent is sure of.

    Such a row has the label that the parent finds most probable, and `weight` times its weight. Of
    rows of an entity in the validation split none is trained on.

    Args:
        folder: Folder of the frozen rows.
        digest: Digest of the frozen rows.
        recipe: The recipe. Without the option, no row is labelled.
        parent: The parent.
        scratch: A folder of this pod on the same file system.
        held: Rows that may be replayed. None: nothing is replayed.
        processes: They share the rows.
        shards: Where the tokens are kept in shards. None: all in the folder of the rows.

    Raises:
        Refused: as `training_rows.load`, or the rows lack a column that the parent reads.
    """
    with processes.first_alone():
        new = source_rows.read(
            folder, digest, recipe, parent=parent.folder, scratch=scratch, shards=shards
        )
        tokens = _tokens(new, folder, digest, recipe, parent=parent, scratch=scratch, shards=shards)
    found = _labelled(new, tokens, recipe, parent, processes)
    with processes.first_alone():
        return training_rows.arrange(
            new,
            found,
            folder,
            digest,
            recipe,
            parent=parent.folder,
            held=held,
            read_by_parent=None if tokens is new.examples.tokens else tokens,
        )


def digest(rows: TrainingRows) -> str:
    """Return the digest of the pseudo-labels; empty without them."""
    if rows.pseudo_labels is None:
        return ""
    used = np.intersect1d(rows.unlabelled, rows.units.rows)
    found = np.stack([used, rows.examples.labels[used]]).astype(np.int64)
    return hashlib.sha256(found.tobytes()).hexdigest()


def _tokens(
    new: SourceRows,
    folder: Path,
    digest: str,
    recipe: Recipe,
    *,
    parent: Parent,
    scratch: Path,
    shards: Shards | None,
) -> TokenRows | None:
    """Return the rows as the parent reads them, which may be another way than the recipe's.

    None: it neither labels nor teaches any.
    """
    retention = recipe.training.retention
    teaches = retention is not None and retention.distillation is not None
    labels = recipe.training.pseudo_labels is not None and len(new.unlabelled) > 0
    if parent.seeded or not (labels or teaches):
        return None
    before, own = Preprocess.read(parent.folder), Preprocess.of(recipe)
    if Key.of(digest, before, parent.folder) == Key.of(digest, own, parent.folder):
        return new.examples.tokens
    frozen = columns_of(folder, "train")
    known = {name.removeprefix(FEATURE) for name in frozen if name.startswith(FEATURE)}
    known |= {"text", "text_pair"} & {*frozen}
    option = "unlabelled.pseudoLabels" if labels else "retention.distillation"
    if missing := [name for name in before.inputs if name not in known]:
        message = (
            f"the parent reads {before.inputs} and the rows have no {', '.join(missing)}, so it "
            f"cannot {'label' if labels else 'teach'} rows; keep its columns in "
            f"data.source.columns, or remove training.{option} until the next generation is live"
        )
        raise Refused("MissingColumn", message, f"spec.training.{option}")
    return Texts.of(folder, digest, before, parent.folder).tokens(scratch, shards)


def _labelled(
    new: SourceRows,
    tokens: TokenRows | None,
    recipe: Recipe,
    parent: Parent,
    processes: Processes,
) -> Labelled | None:
    """Find the rows without a label that the parent is sure of; None without the option."""
    options = recipe.training.pseudo_labels
    if options is None:
        return None
    task = task_of(Preprocess.read(parent.folder))
    known = task_of(recipe.model).encode(pa.chunked_array([task.outputs]), "parent's labels")
    numbers = dict(zip(task.outputs, known.tolist(), strict=True))
    rows = labels = np.empty(0, np.int64)
    if tokens is not None and len(new.unlabelled):
        best, probability = _best(new.unlabelled, tokens, recipe, parent, processes)
        sure = probability >= np.float32(options.threshold)
        rows, labels = new.unlabelled[sure], known[best[sure]]
    return Labelled(rows, labels, numbers, message=UNTRAINED if parent.seeded else "")


def _best(
    rows: NDArray[np.int64],
    tokens: TokenRows,
    recipe: Recipe,
    parent: Parent,
    processes: Processes,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the number of the parent's most probable label of each row, and its probability.

    In FP32, without dropout, by the kernels of the training: a GPU that is to be deterministic
    must be before it first multiplies.
    """
    options, longest = recipe.training.hyperparameters, int(tokens.lengths.max())
    task = task_of(Preprocess.read(parent.folder))
    model = move(task.load(parent.folder), parent.device)
    size = scored_rows(options.batch_size, parent.batch_divisor)
    best, probability = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
    with parent.kernels(longest):
        for start in range(0, len(rows), CHUNK):
            chunk = slice(start, start + CHUNK)
            scores = predict(
                task, model, tokens, rows=rows[chunk], batch_size=size, processes=processes
            )
            best[chunk], probability[chunk] = scores.argmax(axis=1), scores.max(axis=1)
    return best, probability
