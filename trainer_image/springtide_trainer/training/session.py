"""One training run: built from its recipe, and fitted from its newest checkpoint on."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from springtide_trainer.artifact.models import move, predict
from springtide_trainer.errors import Interrupted, NoStepTaken, Refused
from springtide_trainer.interruption import INTERRUPTED, stop_on_sigterm
from springtide_trainer.methods.table import METHODS
from springtide_trainer.progress import Progress, Reporter
from springtide_trainer.storage import local_path
from springtide_trainer.tasks.metrics.statistic import EncodedRows, whole
from springtide_trainer.tasks.table import task_of
from springtide_trainer.training import loop, optimizer, precision, warm_start
from springtide_trainer.training.batches import StepSampler, steps
from springtide_trainer.training.checkpoints import Checkpoints
from springtide_trainer.training.early_stopping import EarlyStopping
from springtide_trainer.training.optimizer import WarmupThen
from springtide_trainer.training.training_state import FORMAT, Run, capture, restore

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from transformers import PreTrainedModel

    from springtide_api.contract import RunFile, TrainInput
    from springtide_api.generation.spec import Recipe
    from springtide_api.update.training import Hyperparameters
    from springtide_trainer.tasks.task import Task
    from springtide_trainer.training.training_rows import TrainingRows

log = logging.getLogger(__name__)

RECENT = 100
"""The reported loss is the mean over this many last steps."""


@dataclass(frozen=True)
class Session:
    """A run that is ready to be fitted.

    Attributes:
        task: What is learnt.
        model: The parent's weights, prepared for training.
        run: The state that changes from step to step.
        rows: The training and validation rows.
        sampler: Which rows make up which step.
        total: Number of steps of the whole run.
        options: Optimizer settings.
        checkpoints: The store of its checkpoints.
        checkpoint_every: Steps between two checkpoints.
        measured: Metrics of the run for the result and the log.
    """

    task: Task
    model: PreTrainedModel
    run: Run
    rows: TrainingRows
    sampler: StepSampler
    total: int
    options: Hyperparameters
    checkpoints: Checkpoints
    checkpoint_every: int
    measured: dict[str, float] = field(default_factory=dict)


def prepare(
    run: RunFile, rows: TrainingRows, parent: Path, *, device: torch.device, scratch: Path
) -> Session:
    """Build a run.

    Args:
        run: The run file; its block `train` is set.
        rows: The training and validation rows.
        parent: Folder of the parent's artifact, verified.
        device: The device to train on.
        scratch: A folder of this pod on the file system of the checkpoints.

    Raises:
        Refused: the recipe does not fit the parent or the hardware.
    """
    given, training = _given(run), run.recipe.training
    options = training.hyperparameters
    task, method = task_of(run.recipe.model.labels), METHODS[training.method.type]
    chosen = precision.resolve(options.precision, device)
    model = move(warm_start.load(parent, options, task=task, method=method), device)
    sampler = StepSampler(
        rows=rows.training,
        manifest=given.data.digest,
        seed=options.seed,
        batch_size=options.batch_size,
        accumulation=options.gradient_accumulation,
        divisor=given.batch_divisor,
    )
    total = options.max_steps or (options.epochs or 1) * sampler.steps_per_epoch
    built = optimizer.build(
        options.optimizer,
        model,
        learning_rate=float(options.learning_rate),
        weight_decay=float(options.weight_decay),
    )
    stopping = None
    if (wanted := training.early_stopping) is not None:
        measure = partial(_validate, task, model, rows, options=options, metric=wanted.metric)
        stopping = EarlyStopping(wanted, model, last=total, measure=measure)
    return Session(
        task=task,
        model=model,
        run=Run(model, built, chosen, stopping),
        rows=rows,
        sampler=sampler,
        total=total,
        options=options,
        checkpoints=_checkpoints(run.recipe, given, chosen, scratch=scratch),
        checkpoint_every=training.checkpoint.every_steps,
    )


def fit(session: Session) -> loop.Outcome:
    """Train from the newest checkpoint to the end; the model then holds the final weights.

    Raises:
        Diverged: the loss is no longer finite, or FP16 skipped every step.
        Interrupted: SIGTERM was received; a checkpoint is saved.
    """
    run, done, began = session.run, _resume(session), time.monotonic()
    losses: deque[float] = deque(maxlen=RECENT)
    if run.early_stopping:
        run.early_stopping.begin()
    with stop_on_sigterm() as interrupted:
        stop = _first_of([run.early_stopping.stop] if run.early_stopping else [], interrupted)
        if reason := stop(done):
            outcome = loop.Outcome(done, reason)
        else:
            outcome = _take_steps(session, done, stop, losses)
    if outcome.reason == INTERRUPTED:
        session.checkpoints.save(capture(run, outcome.step))
        raise Interrupted
    if not run.precision.stepped:
        raise NoStepTaken(outcome.step)
    if run.early_stopping:
        run.early_stopping.restore_best()
    _measure(session, losses, (outcome.step - done) / max(1e-9, time.monotonic() - began))
    return outcome


def _take_steps(session: Session, done: int, stop: loop.Stop, losses: deque[float]) -> loop.Outcome:
    """Take the remaining steps."""
    run, options = session.run, session.options

    def save_checkpoint(step: int, loss: float) -> None:
        if step % session.checkpoint_every == 0:
            session.checkpoints.save(capture(run, step))

    validate = [run.early_stopping.observe] if run.early_stopping else []
    progress = Progress(Reporter.of(os.environ), first=done, total=session.total)
    outcome = loop.train(
        session.model,
        steps(
            session.rows.examples,
            session.sampler,
            collate=session.task.collate,
            first=done + 1,
            last=session.total,
        ),
        session.task.objective,
        run.optimizer,
        schedule=WarmupThen(
            shape=options.schedule,
            peak=float(options.learning_rate),
            total=session.total,
            warmup=float(options.warmup),
        ),
        precision=run.precision,
        max_grad_norm=float(options.max_grad_norm),
        # A checkpoint contains the state of early stopping at its step, so validation runs first.
        observers=[
            *validate,
            save_checkpoint,
            progress.observe,
            lambda _, loss: losses.append(loss),
        ],
        stop=stop,
    )
    if outcome.reason == loop.ALL_SEEN:
        return loop.Outcome(session.total, "maxSteps" if options.max_steps else loop.ALL_SEEN)
    return outcome


def _first_of(stops: list[loop.Stop], last: Callable[[int], str | None]) -> loop.Stop:
    def stop(step: int) -> str | None:
        return next((reason for each in (*stops, last) if (reason := each(step))), None)

    return stop


def _resume(session: Session) -> int:
    """Restore the newest checkpoint of this run; return the number of completed steps."""
    state = session.checkpoints.newest()
    if state is None:
        return 0
    restore(session.run, state)
    log.info("resumed", extra={"step": state.step, "of": session.total})
    return state.step


def _measure(session: Session, losses: deque[float], steps_per_second: float) -> None:
    """Record loss, throughput and validation metric of the steps that this pod took."""
    if losses:
        session.measured["loss"] = sum(losses) / len(losses)
        rate = steps_per_second * min(session.sampler.step_rows, len(session.sampler.rows))
        session.measured["examples_per_second"] = rate
    stopping = session.run.early_stopping
    if stopping is not None and not math.isnan(stopping.best_value):
        session.measured["validation"] = stopping.best_value
        session.measured["best_step"] = float(stopping.best_step)


def _validate(
    task: Task,
    model: PreTrainedModel,
    rows: TrainingRows,
    *,
    options: Hyperparameters,
    metric: str,
) -> float:
    """Return a metric on the validation split."""
    split, size = rows.validation, options.batch_size
    scores = predict(task, model, rows.examples.tokens, rows=split, batch_size=size)
    encoded = EncodedRows(rows.examples.labels[split], np.arange(len(split)))
    return whole(task.statistic(metric, encoded, scores, once=True), encoded)


def _checkpoints(
    recipe: Recipe, given: TrainInput, chosen: precision.Precision, *, scratch: Path
) -> Checkpoints:
    return Checkpoints(
        folder=_folder(given.checkpoints),
        scratch=scratch,
        identity=_identity(recipe, given),
        environment=precision.environment(chosen),
        keep=recipe.training.checkpoint.keep,
    )


def _identity(recipe: Recipe, given: TrainInput) -> dict[str, Any]:
    """Return what identifies a run: checkpoints of another identity are not used.

    `batchDivisor` is not part of it, because the rows of a step do not depend on it.
    """
    training = recipe.training
    return {
        "format": FORMAT,
        "labels": recipe.model.labels,
        "maxLength": recipe.model.max_length,
        "columns": recipe.data.source.columns.plain(),
        "method": training.method.plain(),
        "hyperparameters": training.hyperparameters.plain(),
        "earlyStopping": training.early_stopping.plain() if training.early_stopping else None,
        "data": given.data.digest,
        "parent": given.parent.digest,
    }


def _given(run: RunFile) -> TrainInput:
    if run.train is None:
        raise Refused("InvalidRunFile", "stage train needs the block train in run.json")
    return run.train


def _folder(location: str) -> Path:
    """Return the folder of the checkpoints from a path or a file:// URI."""
    return local_path(location) if "://" in location else Path(location)
