"""Trains a candidate: fine-tunes the live generation's weights on the rows of the window.

Equal recipe, rows, parent and hardware give equal weights, even if the pod is killed and resumed.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

import torch

from springtide_api.contract import TrainOutput
from springtide_trainer.artifact import manifest, saving
from springtide_trainer.artifact.models import move
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.errors import Diverged, Refused
from springtide_trainer.methods.table import METHODS
from springtide_trainer.storage import local_path
from springtide_trainer.training import fit, session, warm_start
from springtide_trainer.training.precision import deterministic_attention
from springtide_trainer.training.rows.training_rows import load

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.contract import CommittedArtifact, RunFile
    from springtide_api.generation.spec import Recipe
    from springtide_trainer.storage import Home

log = logging.getLogger(__name__)


def train(run: RunFile, home: Home, tmp: Path) -> TrainOutput:
    """Train from the parent's weights and commit the artifact.

    Raises:
        Refused: parent, rows and recipe do not match.
        Diverged: loss or weights are no longer finite.
        Interrupted: SIGTERM was received; a checkpoint is saved.
    """
    if run.train is None:
        raise Refused("InvalidRunFile", "stage train needs the block train in run.json")
    began = time.monotonic()
    parent = local_path(run.train.parent.uri)
    manifest.verify(parent, run.train.parent.digest)
    data = local_path(run.train.data.uri)
    rows = load(data, run.train.data.digest, run.recipe, parent=parent, scratch=tmp)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with deterministic_attention(device, int(rows.examples.tokens.lengths.max())):
        ready = session.prepare(run, rows, parent, device=device, scratch=tmp)
        outcome = fit.fit(ready)
    made = _commit(
        ready,
        outcome.step,
        parent,
        recipe=run.recipe,
        home=home,
        folder=tmp / "artifact",
    )
    seconds = time.monotonic() - began
    log.info("trained", extra={"digest": made.digest, "steps": outcome.step, **ready.measured})
    return TrainOutput(
        artifact=made,
        steps=outcome.step,
        rows=len(rows.units.rows),
        seconds=seconds,
        metrics=ready.measured,
        stop_reason=outcome.reason,
    )


def _commit(
    ready: session.Session,
    step: int,
    parent: Path,
    *,
    recipe: Recipe,
    home: Home,
    folder: Path,
) -> CommittedArtifact:
    """Write the candidate, with the parent's tokenizer and configuration."""
    model = move(ready.model, "cpu")
    if not all(bool(weight.isfinite().all()) for weight in model.parameters()):
        raise Diverged(step, float("nan"))
    warm_start.restore_dropout(model, parent)
    saving.copy_tokenizer(parent, folder)
    METHODS[recipe.training.method.type].export(model, folder)
    Preprocess.of(recipe).model_copy(update=ready.task.kept).write(folder)
    return manifest.commit(folder, home)
