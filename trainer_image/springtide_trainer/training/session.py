"""One training run, put together from its recipe and walked from its newest checkpoint on."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from springtide_trainer.artifact.models import move, probabilities
from springtide_trainer.errors import Interrupted, NoStepTaken, Refused
from springtide_trainer.interruption import INTERRUPTED, stop_on_sigterm
from springtide_trainer.progress import Progress, Reporter
from springtide_trainer.storage import local_path
from springtide_trainer.training import loop, optimizer, precision, validation, warm_start
from springtide_trainer.training.batches import Plan, steps
from springtide_trainer.training.checkpoints import Checkpoints
from springtide_trainer.training.early_stopping import EarlyStopping
from springtide_trainer.training.optimizer import WarmupThen
from springtide_trainer.training.training_state import FORMAT, Run, capture, restore

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from transformers import PreTrainedModel

    from springtide_api.contract import RunFile, TrainInput
    from springtide_api.generation import Recipe
    from springtide_api.training_spec import Hyperparameters
    from springtide_trainer.training.training_rows import TrainingRows

log = logging.getLogger(__name__)

RECENT = 100
"""Steps whose mean loss is reported."""


@dataclass(frozen=True)
class Session:
    """A run that is ready to go.

    Attributes:
        model: The parent's weights, made ready.
        run: What changes from step to step.
        rows: What it learns from.
        plan: In which order.
        total: Steps of the whole run.
        options: How the optimiser walks.
        checkpoints: Where its state is saved.
        checkpoint_every: Steps between two checkpoints.
        measured: Numbers about the run, for people.
    """

    model: PreTrainedModel
    run: Run
    rows: TrainingRows
    plan: Plan
    total: int
    options: Hyperparameters
    checkpoints: Checkpoints
    checkpoint_every: int
    measured: dict[str, float] = field(default_factory=dict)


def prepare(
    run: RunFile, rows: TrainingRows, parent: Path, *, device: torch.device, scratch: Path
) -> Session:
    """Put a run together.

    Args:
        run: The run file; its block `train` is set.
        rows: What to learn from.
        parent: Folder of the parent's artifact, verified.
        device: Where to compute.
        scratch: Folder of this pod on the file system of the checkpoints.

    Raises:
        Refused: the recipe does not fit the parent or the hardware.
    """
    given, options = _given(run), run.recipe.training.hyperparameters
    chosen = precision.resolve(options.precision, device)
    model = move(warm_start.load(parent, run.recipe.model.labels, options), device)
    plan = Plan(
        rows=rows.training,
        manifest=given.data.digest,
        seed=options.seed,
        batch_size=options.batch_size,
        accumulation=options.gradient_accumulation,
        divisor=given.batch_divisor,
    )
    total = options.max_steps or (options.epochs or 1) * plan.steps_per_epoch
    walker = optimizer.build(
        options.optimizer,
        model,
        learning_rate=float(options.learning_rate),
        weight_decay=float(options.weight_decay),
    )
    stopping = _early_stopping(run.recipe, model, rows, total)
    checkpoints = Checkpoints(
        folder=_folder(given.checkpoints),
        scratch=scratch,
        identity=_identity(run.recipe, given),
        environment=precision.environment(chosen),
        keep=run.recipe.training.checkpoint.keep,
    )
    return Session(
        model=model,
        run=Run(model, walker, chosen, stopping),
        rows=rows,
        plan=plan,
        total=total,
        options=options,
        checkpoints=checkpoints,
        checkpoint_every=run.recipe.training.checkpoint.every_steps,
    )


def walk(session: Session) -> loop.Outcome:
    """Train from the newest checkpoint to the end; the model then has the weights to keep.

    Raises:
        Diverged: the loss is no longer finite, or FP16 left every step out.
        Interrupted: SIGTERM came; a checkpoint is saved.
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
            outcome = _learn(session, done, stop, losses)
    if outcome.reason == INTERRUPTED:
        session.checkpoints.save(capture(run, outcome.step))
        raise Interrupted
    if not run.precision.stepped:
        raise NoStepTaken(outcome.step)
    if run.early_stopping:
        run.early_stopping.take_best()
    _measure(session, losses, (outcome.step - done) / max(1e-9, time.monotonic() - began))
    return outcome


def _learn(session: Session, done: int, stop: loop.Stop, losses: deque[float]) -> loop.Outcome:
    """Take the steps that are left."""
    run, options = session.run, session.options

    def save_now_and_then(step: int, loss: float) -> None:
        if step % session.checkpoint_every == 0:
            session.checkpoints.save(capture(run, step))

    looks = [run.early_stopping.observe] if run.early_stopping else []
    progress = Progress(Reporter.of(os.environ), first=done, total=session.total)
    outcome = loop.train(
        session.model,
        steps(session.rows.examples, session.plan, first=done + 1, last=session.total),
        loop.cross_entropy,
        run.optimizer,
        schedule=WarmupThen(
            shape=options.schedule,
            peak=float(options.learning_rate),
            total=session.total,
            warmup=float(options.warmup),
        ),
        precision=run.precision,
        max_grad_norm=float(options.max_grad_norm),
        # A checkpoint holds what early stopping saw at its step, so it comes after it.
        observers=[
            *looks,
            save_now_and_then,
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
        return next((reason for ask in (*stops, last) if (reason := ask(step))), None)

    return stop


def _resume(session: Session) -> int:
    """Go back to the newest checkpoint of this run; return the steps that are done."""
    state = session.checkpoints.newest()
    if state is None:
        return 0
    restore(session.run, state)
    log.info("resumed", extra={"step": state.step, "of": session.total})
    return state.step


def _measure(session: Session, losses: deque[float], steps_per_second: float) -> None:
    """Note numbers for people, about the part of the run that this pod did."""
    if losses:
        session.measured["loss"] = sum(losses) / len(losses)
        rate = steps_per_second * min(session.plan.step_rows, len(session.plan.rows))
        session.measured["examples_per_second"] = rate
    stopping = session.run.early_stopping
    if stopping is not None and not math.isnan(stopping.best_value):
        session.measured["validation"] = stopping.best_value
        session.measured["best_step"] = float(stopping.best_step)


def _early_stopping(
    recipe: Recipe, model: PreTrainedModel, rows: TrainingRows, total: int
) -> EarlyStopping | None:
    options = recipe.training.early_stopping
    if options is None:
        return None
    batch_size = recipe.training.hyperparameters.batch_size

    def measure() -> float:
        scores = probabilities(model, rows.examples.tokens, rows.validation, batch_size=batch_size)
        return validation.value(options.metric, rows.examples.labels[rows.validation], scores)

    return EarlyStopping(options, model, last=total, measure=measure)


def _identity(recipe: Recipe, given: TrainInput) -> dict[str, Any]:
    """Name what makes a run this run.

    How small its batches are cut for want of memory does not: the rows of a step are the same.
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


def _folder(place: str) -> Path:
    """Read the folder of the checkpoints, given as a path or a file:// URI."""
    return local_path(place) if "://" in place else Path(place)
