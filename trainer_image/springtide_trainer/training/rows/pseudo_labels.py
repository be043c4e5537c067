"""Pseudo-labels: the parent labels the training rows without a label that it is sure of (Lee 2013).

Its labels are those of its weights before the first step and do not change during the training, so
a resumed run has the same rows. Nothing of them is kept: the next generation labels by its own
parent.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from springtide_api.retained import PseudoLabelled
from springtide_trainer.artifact.length_limit import check_max_length
from springtide_trainer.artifact.models import move, predict
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.processes import ALONE
from springtide_trainer.tasks.table import task_of
from springtide_trainer.training.rows.training_rows import by_class
from springtide_trainer.training.rows.units import Units

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from numpy.typing import NDArray

    from springtide_api.generation.spec import Recipe
    from springtide_trainer.processes import Processes
    from springtide_trainer.training.rows.training_rows import TrainingRows

UNTRAINED = "the parent's head is untrained"


def labelled(
    rows: TrainingRows,
    recipe: Recipe,
    parent: Path,
    *,
    seeded: bool,
    device: torch.device,
    processes: Processes = ALONE,
) -> TrainingRows:
    """Add the rows without a label that the parent is sure of; without the option, return `rows`.

    Such a row has the label that the parent finds most probable, and `weight` times its weight.

    Args:
        rows: The rows of a window.
        recipe: The recipe.
        parent: Folder of the parent's artifact, verified.
        seeded: The parent's head is untrained: no row is labelled.
        device: The device to score on.
        processes: They share the rows.

    Raises:
        Refused: the parent cannot read rows of model.maxLength.
    """
    options = recipe.training.pseudo_labels
    if options is None:
        return rows
    offered = rows.unlabelled
    names = task_of(Preprocess.read(parent)).outputs
    if seeded or not len(offered):
        report = PseudoLabelled(offered=len(offered), message=UNTRAINED if seeded else "")
        return by_class(replace(rows, pseudo_labels=report), recipe)
    scores = _scores(rows, recipe, parent, device=device, processes=processes)
    sure = scores.max(axis=1) >= np.float32(options.threshold)
    chosen, found = offered[sure], scores[sure].argmax(axis=1)
    known = task_of(recipe.model).encode(pa.chunked_array([pa.array(names)]), "parent's labels")
    examples = rows.examples
    labels, weights = examples.labels.copy(), examples.weights.copy()
    labels[chosen] = known[found]
    weights[chosen] *= np.float32(options.weight)
    report = PseudoLabelled(
        offered=len(offered),
        used=len(chosen),
        classes=dict(zip(names, np.bincount(found, minlength=len(names)).tolist(), strict=True)),
    )
    made = replace(
        rows,
        examples=replace(examples, labels=labels, weights=weights),
        units=Units.of_rows(np.sort(np.append(rows.units.rows, chosen))),
        pseudo_labels=report,
    )
    return by_class(made, recipe)


def digest(rows: TrainingRows) -> str:
    """Return the digest of the pseudo-labels; empty without them."""
    if rows.pseudo_labels is None:
        return ""
    used = np.intersect1d(rows.unlabelled, rows.units.rows)
    found = np.stack([used, rows.examples.labels[used]]).astype(np.int64)
    return hashlib.sha256(found.tobytes()).hexdigest()


def _scores(
    rows: TrainingRows, recipe: Recipe, parent: Path, *, device: torch.device, processes: Processes
) -> NDArray[np.float32]:
    """Score the rows without a label with the parent, in FP32: [rows, labels of the parent]."""
    task = task_of(Preprocess.read(parent))
    model = task.load(parent)
    check_max_length(model, recipe.model.max_length)
    return predict(
        task,
        move(model, device),
        rows.examples.tokens,
        rows=rows.unlabelled,
        batch_size=recipe.training.hyperparameters.batch_size,
        processes=processes,
    )
