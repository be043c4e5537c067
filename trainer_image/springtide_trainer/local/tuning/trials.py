"""The trials of a search: each trains on the window and is measured on its validation part.

The suggestions are those of the tree-structured Parzen estimator (Bergstra et al., "Algorithms for
Hyper-Parameter Optimization", NeurIPS 2011), and a trial ends early if it is worse than the median
of the earlier ones after as many rows (Golovin et al., "Google Vizier", KDD 2017), both of Optuna.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import optuna
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from springtide_api.update.task import EARLY_STOPPING_METRIC
from springtide_judging.bounds import LOWER_IS_BETTER
from springtide_trainer.errors import Diverged, NoStepTaken
from springtide_trainer.local.tuning import search_space
from springtide_trainer.stages.train import held_rows
from springtide_trainer.storage import local_path
from springtide_trainer.training import fit, session
from springtide_trainer.training.engine.kernels import training_kernels
from springtide_trainer.training.rows import pseudo_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from springtide_api.contract import RunFile
    from springtide_trainer.local.display import Display
    from springtide_trainer.local.tuning.search_space import Dimension, Value
    from springtide_trainer.storage import Home
    from springtide_trainer.training.early_stopping import EarlyStopping
    from springtide_trainer.training.rows.training_rows import TrainingRows

FOLDER = "tune"
BEST_STEP, SECONDS, WHY, RECIPE = "bestStep", "seconds", "why", "recipe"
RANDOM_TRIALS = 5
"""Trials before the sampler learns from them, and before any is ended early."""


@dataclass(frozen=True)
class Search:
    """What is searched, on which rows.

    Attributes:
        base: The run file of the training with the recipe as it is.
        of: Returns the run file of a training with other values.
        dimensions: The hyperparameters.
        home: The folder of the recipe.
        display: Where progress is shown.
    """

    base: RunFile
    of: Callable[[Mapping[str, Value]], RunFile]
    dimensions: Sequence[Dimension]
    home: Home
    display: Display

    @property
    def metric(self) -> str:
        """The metric on the validation part."""
        stopping = self.base.recipe.training.early_stopping
        named = stopping.metric if stopping else None
        return named or EARLY_STOPPING_METRIC[self.base.recipe.model.task]

    def run(self, trials: int, *, seconds: float) -> Study:
        """Run trials until there are so many; those of an earlier command count.

        The first one is the recipe as it is.

        Args:
            trials: Their number.
            seconds: No trial starts after so many.

        Raises:
            Refused: the rows or the recipe cannot be used.
            Interrupted: SIGTERM was received; the same command continues with the same trial.
        """
        study, ends = self._study(), time.monotonic() + seconds
        self._repeat_interrupted(study)
        with self._folder("rows") as scratch:
            rows = self._rows(scratch)
            while (number := _ended(study)) < trials and time.monotonic() < ends:
                trial = study.ask()
                values = {each.name: each.suggest(trial) for each in self.dimensions}
                with self.display.stage(f"trial {number + 1}/{trials}"):
                    self._try(study, trial, self.of(values), rows)
                done = study.trials[trial.number]
                self.display.done(f"trial {number + 1}", self._line(done, values))
        return study

    def _study(self) -> Study:
        """Open the trials of this recipe, these rows and these hyperparameters."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        folder = self.home.path / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        asked = self.base.train
        assert asked is not None
        parts = [self.base.recipe.model_dump_json(), asked.data.digest, asked.parent.digest]
        parts += map(str, self.dimensions)
        storage = JournalStorage(JournalFileBackend(str(folder / "trials.log")))
        study = optuna.create_study(
            storage=storage,
            study_name=hashlib.sha256("\n".join(parts).encode()).hexdigest(),
            direction="minimize" if self.metric in LOWER_IS_BETTER else "maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=RANDOM_TRIALS, n_warmup_steps=1),
        )
        seed = self.base.recipe.training.hyperparameters.seed + len(study.trials)
        study.sampler = optuna.samplers.TPESampler(n_startup_trials=RANDOM_TRIALS, seed=seed)
        if not study.trials:
            self._enqueue_recipe(study)
        return study

    def _enqueue_recipe(self, study: Study) -> None:
        training = self.base.recipe.training
        values = {each.name: search_space.current(each, training) for each in self.dimensions}
        study.enqueue_trial(values, user_attrs={RECIPE: True})

    def _repeat_interrupted(self, study: Study) -> None:
        """Give up the trials that were interrupted, and try their values once more."""
        for each in study.trials:
            if each.state != TrialState.RUNNING:
                continue
            study.tell(each.number, state=TrialState.FAIL)
            if is_recipe(each):
                self._enqueue_recipe(study)
            elif WHY not in each.user_attrs:
                study.enqueue_trial(each.params)

    def _rows(self, scratch: Path) -> TrainingRows:
        """Read the training rows once: no hyperparameter that is searched changes them."""
        run = self.base
        assert run.train is not None
        parent = local_path(run.train.parent.uri)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return pseudo_labels.load(
            local_path(run.train.data.uri),
            run.train.data.digest,
            run.recipe,
            parent=pseudo_labels.Parent(
                parent,
                run.train.seeded_head,
                device,
                kernels=partial(
                    training_kernels, device, options=run.recipe.training.hyperparameters
                ),
            ),
            scratch=scratch,
            held=held_rows(run.recipe, run.train),
        )

    def _try(self, study: Study, trial: Trial, run: RunFile, rows: TrainingRows) -> None:
        """Train, and record the best value on the validation part."""
        began = time.monotonic()
        try:
            with self._folder(f"trial-{trial.number}") as scratch:
                value = self._train(trial, run, rows, scratch)
        except optuna.TrialPruned:
            _record(trial, {SECONDS: time.monotonic() - began})
            study.tell(trial, state=TrialState.PRUNED)
        except (Diverged, NoStepTaken, torch.OutOfMemoryError) as failed:
            why = "diverged" if isinstance(failed, (Diverged, NoStepTaken)) else "out of memory"
            _record(trial, {SECONDS: time.monotonic() - began, WHY: why})
            study.tell(trial, state=TrialState.FAIL)
        else:
            _record(trial, {SECONDS: time.monotonic() - began})
            study.tell(trial, value)

    def _train(self, trial: Trial, run: RunFile, rows: TrainingRows, scratch: Path) -> float:
        """Train a model that is not kept; return its best value on the validation part."""
        assert run.train is not None
        asked = run.train.model_copy(update={"checkpoints": str(scratch / "checkpoints")})
        run = run.model_copy(update={"train": asked})
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        options = run.recipe.training.hyperparameters
        longest = int(rows.examples.tokens.lengths.max())
        with training_kernels(device, longest, options):
            parent = local_path(asked.parent.uri)
            ready = session.prepare(run, rows, parent, device=device, scratch=scratch)
            stopping = ready.run.early_stopping
            assert stopping is not None
            _report(stopping, trial)
            fit.fit(ready)
        _record(trial, {BEST_STEP: stopping.best_step})
        return stopping.best_value

    @contextmanager
    def _folder(self, name: str) -> Iterator[Path]:
        """Yield a folder that is empty at first, and gone afterwards."""
        path = self.home.path / FOLDER / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def _line(self, trial: FrozenTrial, values: Mapping[str, Value]) -> str:
        found = search_space.shown(values, self.dimensions)
        return f"{found}: {result(trial, self.metric)}, {trial.user_attrs[SECONDS]:.0f} s"


def _report(stopping: EarlyStopping, trial: Trial) -> None:
    """Report each value on the validation part.

    Validations of all trials come after as many rows each, so the number of the validation tells
    how far a trial is.

    Raises:
        TrialPruned: on a later validation, if the trial is worse than the others were.
    """
    measure, done = stopping.measure, 0

    def reported() -> float:
        nonlocal done
        value = measure()
        trial.report(value, done)
        done += 1
        if trial.should_prune():
            raise optuna.TrialPruned
        return value

    stopping.measure = reported


def _record(trial: Trial, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        trial.set_user_attr(name, value)


def _ended(study: Study) -> int:
    """Count the trials that have a result: not those that were interrupted."""
    return len(list(ended(study)))


def ended(study: Study) -> Iterator[FrozenTrial]:
    """Yield the trials that have a result."""
    for each in study.trials:
        failed = each.state == TrialState.FAIL and WHY in each.user_attrs
        if failed or each.state in {TrialState.COMPLETE, TrialState.PRUNED}:
            yield each


def is_recipe(trial: FrozenTrial) -> bool:
    """Return whether a trial is the recipe as it is: the first one, or its repetition."""
    return RECIPE in trial.user_attrs


def result(trial: FrozenTrial, metric: str) -> str:
    """Return what became of a trial."""
    if trial.state == TrialState.PRUNED:
        return "ended early, worse than the median"
    if trial.state == TrialState.FAIL:
        return str(trial.user_attrs[WHY])
    at = trial.user_attrs[BEST_STEP]
    return f"{metric} {trial.value:.4f}" + (f" at step {at:,}" if at else ", no step is better")
