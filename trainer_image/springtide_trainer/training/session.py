"""One training run, built from its recipe."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from springtide_api.update.task import EARLY_STOPPING_METRIC
from springtide_trainer.artifact.length_limit import check_max_length
from springtide_trainer.artifact.models import load_tokenizer
from springtide_trainer.optimise import gradual_pruning
from springtide_trainer.processes import ALONE
from springtide_trainer.storage import local_place
from springtide_trainer.tasks.embedding import Embedding
from springtide_trainer.tasks.language.masked_lm import MaskedLM
from springtide_trainer.tasks.language.masked_tokens import FreshMasks, Masks
from springtide_trainer.tasks.language.predicted_tokens import PredictedTokens
from springtide_trainer.tasks.table import task_of
from springtide_trainer.training import optimizer
from springtide_trainer.training.checkpoints import Checkpoints
from springtide_trainer.training.early_stopping import EarlyStopping
from springtide_trainer.training.engine import kernels
from springtide_trainer.training.engine.cached_gradients import CachedGradients
from springtide_trainer.training.engine.pass_limits import pass_limits
from springtide_trainer.training.engine.strategies import strategy_of
from springtide_trainer.training.lower_outputs import BATCH, Wanted, lower_part, store
from springtide_trainer.training.plan import Plan
from springtide_trainer.training.retention import distillation, penalty
from springtide_trainer.training.robustness import adversarial, augmentation, averaging
from springtide_trainer.training.rows import pseudo_labels
from springtide_trainer.training.rows.batches import StepSampler
from springtide_trainer.training.rows.document_vectors import with_vectors
from springtide_trainer.training.rows.mixture import Mixture
from springtide_trainer.training.rows.units import scored_rows
from springtide_trainer.training.rows.validation import validate
from springtide_trainer.training.training_state import Run, identity

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from transformers import PreTrainedModel

    from springtide_api.contract import RunFile
    from springtide_api.update.training import Hyperparameters
    from springtide_trainer.processes import Processes
    from springtide_trainer.tasks.task import Task
    from springtide_trainer.training.engine.replicas import Objective, Passes
    from springtide_trainer.training.engine.strategies import Strategy
    from springtide_trainer.training.retention.penalty import Penalty
    from springtide_trainer.training.rows.batches import Augment
    from springtide_trainer.training.rows.training_rows import TrainingRows


@dataclass(frozen=True)
class Session:
    """A run that is ready to be fitted.

    Attributes:
        task: What is learnt.
        model: The parent's weights, prepared for training, as the strategy placed them.
        load: Loads the model as it was before.
        run: The state that changes from step to step.
        rows: The training and validation rows.
        sampler: Which rows make up which step.
        total: Number of steps of the whole run.
        objective: The loss of a batch.
        passes: Iterates over the batches of a step.
        penalty: What a move of the weights costs; None without.
        processes: This process among those of the run.
        strategy: How they divide the work.
        augmentation: Changes the inputs of training rows; None: they are as they are.
        recorded: Whether steps are recorded as graphs.
        options: Optimizer settings.
        learning_rate: Peak of the schedule.
        checkpoints: The store of its checkpoints.
        checkpoint_every: Steps between two checkpoints.
        measured: Metrics of the run for the result and the log.
    """

    task: Task
    model: PreTrainedModel
    load: Callable[[], PreTrainedModel]
    run: Run
    rows: TrainingRows
    sampler: StepSampler
    total: int
    objective: Objective
    passes: Passes
    penalty: Penalty | None
    processes: Processes
    strategy: Strategy
    augmentation: Augment | None
    recorded: bool
    options: Hyperparameters
    learning_rate: float
    checkpoints: Checkpoints
    checkpoint_every: int
    measured: dict[str, float] = field(default_factory=dict)


def prepare(
    run: RunFile,
    rows: TrainingRows,
    parent: Path,
    *,
    device: torch.device,
    scratch: Path,
    processes: Processes = ALONE,
) -> Session:
    """Build a run.

    Args:
        run: The run file; its block `train` is set.
        rows: The training and validation rows.
        parent: Folder of the parent's artifact, verified.
        device: The device to train on.
        scratch: A folder of this process on the file system of the checkpoints; with several
            processes, one beside those of the others.
        processes: This process among those of the run.

    Raises:
        Refused: the recipe does not fit the parent or the hardware.
    """
    plan = Plan.of(run, rows, parent, device=device, scratch=scratch, processes=processes)
    training, options = plan.training, plan.options
    strategy = strategy_of(training.parallelism.type, processes, device)
    model = strategy.place(plan.load())
    check_max_length(model, run.recipe.model.max_length)
    sampler, recorded = _sampler(plan, rows), _recorded(plan, rows)
    total = options.max_steps or (options.epochs or 1) * sampler.steps_per_epoch
    rows = _with_known_outputs(plan, rows, model, step_rows=sampler.step_units)
    rows, stored = _store_lower_outputs(plan, rows, model, epochs=total / sampler.steps_per_epoch)
    objective, passes = _objective(plan, model, strategy)
    return Session(
        task=plan.task,
        model=model,
        load=plan.load,
        run=_state(plan, model, rows, total=total, recorded=recorded, fused=strategy.fused),
        rows=rows,
        sampler=sampler,
        total=total,
        objective=objective,
        passes=passes,
        penalty=penalty.of(
            training.retention, plan.given, model, plan.chosen, leads=processes.leads
        ),
        processes=processes,
        strategy=strategy,
        augmentation=_augmentation(plan),
        recorded=recorded,
        options=options,
        learning_rate=float(training.learning_rate),
        checkpoints=_checkpoints(plan, strategy, stored, pseudo_labels.digest(rows)),
        checkpoint_every=training.checkpoint.every_steps,
        measured={"groups_without_loss": float(rows.without_loss)} if plan.task.grouping else {},
    )


def _recorded(plan: Plan, rows: TrainingRows) -> bool:
    """Return whether steps are recorded as graphs."""
    # Which logits a pass computes depends on its rows.
    shapes_repeat = rows.documents is None and not isinstance(plan.task, PredictedTokens)
    return shapes_repeat and kernels.recorded(plan.chosen, plan.training, plan.processes.count)


def _augmentation(plan: Plan) -> Augment | None:
    """Return what changes the inputs of training rows in each epoch; None: they are as they are."""
    words, seed = load_tokenizer(plan.parent), plan.options.seed
    if isinstance(plan.task, MaskedLM):
        return FreshMasks(Masks.of(words), seed)
    return augmentation.of(plan.training.robustness, words, seed=seed)


def _with_known_outputs(
    plan: Plan, rows: TrainingRows, model: PreTrainedModel, *, step_rows: int
) -> TrainingRows:
    """Compute what no step changes: the vectors of documents, and what the parent taught."""
    batch_size = plan.scored_rows
    rows = with_vectors(
        rows,
        plan.task,
        plan.parent,
        step_rows=step_rows,
        batch_size=batch_size,
        device=plan.device,
        processes=plan.processes,
    )
    if plan.distilled is None:
        return rows
    return distillation.taught(
        rows,
        plan.task,
        model,
        outputs=task_of(plan.before).width,
        batch_size=batch_size,
        processes=plan.processes,
    )


def _objective(plan: Plan, model: PreTrainedModel, strategy: Strategy) -> tuple[Objective, Passes]:
    """Return the loss of a batch, and what iterates over the batches of a step."""
    task, scale = plan.task, plan.chosen.scaler.scale
    if isinstance(task, Embedding) and task.trains_documents:
        both = CachedGradients(model, task, plan.chosen)
        return both.objective, both.passes
    own = distillation.of(plan.distilled, task)
    return strategy.learn(model, adversarial.of(plan.training.robustness, own, scale=scale))


def _state(
    plan: Plan,
    model: PreTrainedModel,
    rows: TrainingRows,
    *,
    total: int,
    recorded: bool,
    fused: bool,
) -> Run:
    """Return what changes from step to step, before the first one."""
    training, options = plan.training, plan.options
    built = optimizer.build(
        options.optimizer,
        model,
        learning_rate=float(training.learning_rate),
        weight_decay=float(options.weight_decay),
        recorded=recorded,
        fused=fused,
    )
    return Run(
        model,
        built,
        plan.chosen,
        _early_stopping(plan, model, rows, last=total),
        averaging.of(training.robustness, model, total=total),
        plan.method.each_step(model, training, total=total),
        gradual_pruning.of(training.pruning, model, total=total),
    )


def _checkpoints(
    plan: Plan, strategy: Strategy, stored: dict[str, str | int], labels: str
) -> Checkpoints:
    """Return the store of the checkpoints; weights depend on what is `stored`.

    With another digest of pseudo-labels the steps have other rows: it is another run.
    """
    environment = kernels.environment(plan.chosen, plan.options, plan.processes.count)
    return Checkpoints(
        folder=_folder(plan.given.checkpoints),
        scratch=_checkpoint_scratch(plan.run, plan.scratch, plan.processes),
        identity=identity(plan.run.recipe, plan.given, pseudo_labels=labels),
        environment=environment | stored,
        keep=plan.training.checkpoint.keep,
        files=strategy.files,
        processes=plan.processes,
    )


def _sampler(plan: Plan, rows: TrainingRows) -> StepSampler:
    """Return which rows make up which step, and which of them a forward pass."""
    options, grouping = plan.options, plan.task.grouping
    step = min(options.batch_size * options.gradient_accumulation, len(rows.units))
    limits = pass_limits(
        grouping.max_rows if grouping else options.batch_size,
        int(rows.units.longest(rows.examples.tokens.lengths).max()),
        divisor=plan.given.batch_divisor,
        device=plan.device,
        step=-(-step // plan.processes.count) * int(np.diff(rows.units.starts).max()),
    )
    return StepSampler(
        units=rows.units,
        manifest=plan.given.data.digest,
        seed=options.seed,
        batch_size=options.batch_size,
        accumulation=options.gradient_accumulation,
        pass_rows=limits.rows,
        pass_tokens=limits.tokens,
        mixture=Mixture.of(rows.replayed_units) if rows.replayed else None,
    )


def _checkpoint_scratch(run: RunFile, scratch: Path, processes: Processes) -> Path:
    """Return where a checkpoint is written before it is committed, by all processes together."""
    if processes.count == 1:
        return scratch
    of_pod = scratch.parent
    return of_pod if processes.pods == 1 else of_pod.with_name(f"{run.job}-parts")


def _early_stopping(
    plan: Plan, model: PreTrainedModel, rows: TrainingRows, *, last: int
) -> EarlyStopping | None:
    """Return the early stopping that the recipe asks for, by a metric on the validation split."""
    wanted = plan.training.early_stopping
    if wanted is None:
        return None
    metric = wanted.metric or EARLY_STOPPING_METRIC[plan.run.recipe.model.task]
    measure = partial(
        validate,
        plan.task,
        model,
        rows,
        batch_size=plan.scored_rows,
        metric=metric,
        processes=plan.processes,
    )
    return EarlyStopping(wanted, model, metric=metric, last=last, measure=measure)


def _store_lower_outputs(
    plan: Plan, rows: TrainingRows, model: PreTrainedModel, *, epochs: float
) -> tuple[TrainingRows, dict[str, str | int]]:
    """Store the outputs of frozen lower layers for the rows that are read more than once.

    Validation is FP32. Returns the rows, and what bit-equal weights depend on because of this.
    """
    if plan.processes.count > 1:  # each would compute and store those of all rows
        return rows, {}
    if isinstance(plan.task, MaskedLM):  # each epoch hides other tokens
        return rows, {}
    batch = scored_rows(BATCH, plan.given.batch_divisor)
    wanted = [Wanted("validation", rows.validation, batch=batch)]
    if epochs > 1:
        wanted.insert(0, Wanted("training", rows.units.rows, plan.chosen.forward, batch))
    layers = lower_part(model, plan.options)
    if not layers or not any(len(each.rows) for each in wanted):
        return rows, {}
    tokens = store(model, layers, rows.examples.tokens, wanted=wanted, scratch=plan.scratch)
    if tokens is rows.examples.tokens:
        return rows, {}
    return replace(rows, examples=replace(rows.examples, tokens=tokens)), {"lowerOutputs": 1}


def _folder(location: str) -> Path:
    """Return the folder of the checkpoints from a path or a URI."""
    return local_place(location) if "://" in location else Path(location)
