"""Fits a session: from its newest checkpoint to the end of the run."""

from __future__ import annotations

import logging
import math
import os
import time
from collections import deque
from typing import TYPE_CHECKING

from springtide_trainer.errors import Interrupted, NoStepTaken
from springtide_trainer.interruption import INTERRUPTED, stop_on_sigterm
from springtide_trainer.progress import Progress, Reporter
from springtide_trainer.training import loop
from springtide_trainer.training.optimizer import WarmupThen
from springtide_trainer.training.rows.batches import steps
from springtide_trainer.training.training_state import capture, restore

if TYPE_CHECKING:
    from collections.abc import Callable

    from springtide_trainer.training.session import Session

log = logging.getLogger(__name__)

RECENT = 100
"""The reported loss is the mean over this many last steps."""


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
            peak=session.learning_rate,
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
        session.measured["examples_per_second"] = steps_per_second * session.sampler.step_rows
    stopping = session.run.early_stopping
    if stopping is not None and not math.isnan(stopping.best_value):
        session.measured["validation"] = stopping.best_value
        session.measured["best_step"] = float(stopping.best_step)
