"""Fits a session: from its newest checkpoint to the end of the run."""

from __future__ import annotations

import logging
import math
import os
import time
from contextlib import closing, nullcontext
from functools import partial
from typing import TYPE_CHECKING

from springtide_api.contract import ExitCode
from springtide_api.retained import SPARSITY
from springtide_trainer.errors import Interrupted, NoStepTaken, Refused
from springtide_trainer.interruption import INTERRUPTED, stop_on_sigterm
from springtide_trainer.progress import Progress, Reporter
from springtide_trainer.tracking.report import Report
from springtide_trainer.training import loop
from springtide_trainer.training.engine.finite_checks import FiniteChecks, check_tensors
from springtide_trainer.training.engine.prefetch import feed
from springtide_trainer.training.engine.step_graphs import StepGraphs
from springtide_trainer.training.optimizer import WarmupThen, trainable_parameters
from springtide_trainer.training.rows.batches import steps
from springtide_trainer.training.training_state import capture, restore

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from torch import Tensor

    from springtide_trainer.training.early_stopping import EarlyStopping
    from springtide_trainer.training.engine.step_graphs import Take
    from springtide_trainer.training.rows.batches import Step
    from springtide_trainer.training.session import Session

log = logging.getLogger(__name__)

WIDTHS_ON_GPU = 8
"""Batches are as wide as the next multiple of this, so that many steps have the same shapes."""


def fit(session: Session, report: Report | None = None) -> loop.Outcome:
    """Train from the newest checkpoint to the end; the model then holds the final weights.

    Args:
        session: The run.
        report: Gets loss, learning rate and validation metric by step.

    Raises:
        Diverged: loss, gradients or weights are no longer finite, or FP16 skipped every step.
        Interrupted: SIGTERM was received; a checkpoint is saved.
    """
    run, done, began = session.run, _resume(session), time.monotonic()
    report = report or Report()
    report.begin(done, session.total)
    checks = FiniteChecks.on(run.precision.device, session.processes.sum)
    run.begin()
    if run.early_stopping:
        run.early_stopping.begin()
        _report_validation(report, run.early_stopping, done)
    with stop_on_sigterm() as interrupted:
        stop = _first_of(
            [run.early_stopping.stop] if run.early_stopping else [],
            lambda step: INTERRUPTED if session.processes.any(bool(interrupted(step))) else None,
        )
        if reason := stop(done):
            outcome = loop.Outcome(done, reason)
        else:
            outcome = _take_steps(session, done, stop, checks=checks, report=report)
        if outcome.reason == INTERRUPTED:
            _save(session, outcome.step, checks)
            raise Interrupted
    _check(session, outcome.step, checks)
    if not run.precision.stepped:
        raise NoStepTaken(outcome.step)
    run.finish()
    _measure(session, checks, (outcome.step - done) / max(1e-9, time.monotonic() - began))
    return outcome


def _take_steps(
    session: Session, done: int, stop: loop.Stop, *, checks: FiniteChecks, report: Report
) -> loop.Outcome:
    """Take the remaining steps."""
    run, stopping, averaging = session.run, session.run.early_stopping, session.run.averaging
    schedule = _schedule(session)
    curves = partial(_report_step, report, schedule)

    def validate(step: int, loss: float) -> None:
        if stopping is not None and stopping.due(step):
            _check(session, step, checks)
            with averaging.in_place() if averaging else nullcontext():
                stopping.observe(step, loss)
            _report_validation(report, stopping, step)

    def save_checkpoint(step: int, loss: float) -> None:
        if step % session.checkpoint_every == 0:
            _save(session, step, checks)

    reporter = Reporter.of(os.environ) if session.processes.leads else None
    progress = Progress(reporter, first=done, total=session.total)
    with closing(feed(_steps(session, done + 1), run.precision.device)) as coming:
        outcome = loop.train(
            session.model,
            coming,
            session.objective,
            run.optimizer,
            schedule=schedule,
            precision=run.precision,
            max_grad_norm=float(session.options.max_grad_norm),
            checks=checks,
            passes=session.passes,
            penalize=_penalize(session),
            engine=_engine(session),
            # The average of a step is validated, and a checkpoint has the state of both.
            observers=[run.observe, validate, save_checkpoint, curves, progress.observe],
            stop=stop,
        )
    if outcome.reason == loop.ALL_SEEN:
        by_steps = session.options.max_steps is not None
        return loop.Outcome(session.total, "maxSteps" if by_steps else loop.ALL_SEEN)
    return outcome


def _report_step(report: Report, schedule: WarmupThen, step: int, loss: float) -> None:
    if report.due(step):
        report.add(step, {"train/loss": loss, "train/learning_rate": schedule(step)})


def _report_validation(report: Report, stopping: EarlyStopping, step: int) -> None:
    report.add(step, {f"validation/{stopping.metric}": stopping.newest_value})


def _steps(session: Session, first: int) -> Generator[Step]:
    """Return the remaining steps."""
    return steps(
        session.rows.examples,
        session.sampler,
        collate=session.task.collate,
        first=first,
        last=session.total,
        multiple=WIDTHS_ON_GPU if session.recorded else 1,
        augment=session.augmentation,
        processes=session.processes,
    )


def _penalize(session: Session) -> Callable[[], Tensor | float]:
    """Return what adds the gradients of the terms that depend on the weights alone.

    All processes add the same, and the first one alone reports it. With pruning, weights that are
    zero then have no gradient.
    """
    method, pruning = session.run.method, session.run.pruning
    term = session.penalty or (lambda: 0.0)
    if pruning is not None:

        def masked() -> Tensor | float:
            value = term()
            pruning.mask_gradients()
            return value

        return masked
    if method is None:
        return term
    own = method.penalize
    return own if session.processes.leads else lambda: 0.0 * own()


def _engine(session: Session) -> Callable[[Take], Take]:
    """Return how steps are taken: kernel by kernel, or as graphs."""
    if not session.recorded:
        return lambda take: take
    return partial(StepGraphs, clear=session.run.optimizer.zero_grad)


def _schedule(session: Session) -> WarmupThen:
    return WarmupThen(
        shape=session.options.schedule,
        peak=session.learning_rate,
        total=session.total,
        warmup=float(session.options.warmup),
    )


def _check(session: Session, step: int, checks: FiniteChecks) -> None:
    """Check that all steps so far and their weights are finite, before the weights are used.

    Raises:
        Diverged: they are not.
    """
    checks.read()
    check_tensors(trainable_parameters(session.model), step)


def _save(session: Session, step: int, checks: FiniteChecks) -> None:
    """Save a checkpoint, if all of it is finite.

    Raises:
        Diverged: it is not; no checkpoint is saved.
    """
    checks.read()
    state = capture(session.run, step)
    check_tensors(state.tensors, step)
    session.checkpoints.save(state)


def _first_of(stops: list[loop.Stop], last: Callable[[int], str | None]) -> loop.Stop:
    def stop(step: int) -> str | None:
        return next((reason for each in (*stops, last) if (reason := each(step))), None)

    return stop


def _resume(session: Session) -> int:
    """Restore the newest checkpoint of this run; return the number of completed steps.

    Raises:
        Refused: the processes read different ones, because another pod still saves some.
    """
    processes = session.processes
    with processes.first_alone():
        state = session.checkpoints.newest()
    step = state.step if state else 0
    if processes.any(step != processes.from_first(step)):
        message = f"process {processes.rank} read the checkpoint of step {step:,}, another did not"
        raise Refused("CheckpointMismatch", message, code=ExitCode.ENVIRONMENT)
    if state is None:
        return 0
    restore(session.run, state)
    log.info("resumed", extra={"step": state.step, "of": session.total})
    return state.step


def _measure(session: Session, checks: FiniteChecks, steps_per_second: float) -> None:
    """Record loss, throughput, penalty and validation metric of the steps that this pod took."""
    if losses := checks.recent:
        session.measured["loss"] = sum(losses) / len(losses)
        session.measured["examples_per_second"] = steps_per_second * session.sampler.step_rows
    if session.penalty is not None:
        session.measured["ewc_penalty"] = float(session.penalty.value())
    if session.run.pruning is not None:
        session.measured[SPARSITY] = session.run.pruning.sparsity
    stopping = session.run.early_stopping
    if stopping is not None and not math.isnan(stopping.best_value):
        session.measured["validation"] = stopping.best_value
        session.measured["best_step"] = float(stopping.best_step)
