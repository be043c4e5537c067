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
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.errors import Refused
from springtide_trainer.methods.adapter import Continued
from springtide_trainer.methods.table import METHODS
from springtide_trainer.optimise import gradual_pruning
from springtide_trainer.processes import ALONE
from springtide_trainer.storage import local_place
from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.embedding import Embedding
from springtide_trainer.tasks.language.causal_lm import CausalLM
from springtide_trainer.tasks.table import task_of
from springtide_trainer.training import optimizer, precision, warm_start
from springtide_trainer.training.cached_gradients import CachedGradients
from springtide_trainer.training.checkpoints import Checkpoints
from springtide_trainer.training.early_stopping import EarlyStopping
from springtide_trainer.training.engine import kernels
from springtide_trainer.training.engine.pass_limits import pass_limits
from springtide_trainer.training.engine.strategies import strategy_of
from springtide_trainer.training.lower_outputs import Wanted, lower_part, store
from springtide_trainer.training.retention import distillation, penalty
from springtide_trainer.training.robustness import adversarial, augmentation, averaging
from springtide_trainer.training.rows import pseudo_labels
from springtide_trainer.training.rows.batches import StepSampler
from springtide_trainer.training.rows.document_vectors import with_vectors
from springtide_trainer.training.rows.mixture import Mixture
from springtide_trainer.training.rows.validation import validate
from springtide_trainer.training.training_state import Run, identity

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from transformers import PreTrainedModel

    from springtide_api.contract import RunFile, TrainInput
    from springtide_api.generation.spec import Recipe
    from springtide_api.update.retention import Distillation
    from springtide_api.update.training import Hyperparameters, Training
    from springtide_trainer.processes import Processes
    from springtide_trainer.tasks.task import Task
    from springtide_trainer.training.engine.replicas import Objective, Passes
    from springtide_trainer.training.engine.strategies import Strategy
    from springtide_trainer.training.retention.penalty import Penalty
    from springtide_trainer.training.robustness.augmentation import Augmentation
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
    augmentation: Augmentation | None
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
    given, training = _given(run), run.recipe.training
    method = METHODS[training.method.type]
    options, rate = training.hyperparameters, float(training.learning_rate)
    labels, before = rows.examples.labels[rows.units.rows], Preprocess.read(parent)
    task = task_of(run.recipe.model).continued(before, labels)
    _check_options(task, training, processes)
    chosen = precision.resolve(options.precision, device)
    load = partial(
        warm_start.load,
        parent,
        training,
        task=task,
        method=method,
        salt=given.data.digest,
        continued=Continued.of(given.adapter),
    )
    strategy = strategy_of(training.parallelism.type, processes, device)
    model = strategy.place(load())
    check_max_length(model, run.recipe.model.max_length)
    sampler = _sampler(rows, task, options, given=given, device=device, processes=processes)
    total = options.max_steps or (options.epochs or 1) * sampler.steps_per_epoch
    # Which logits a pass computes depends on its rows.
    shapes_repeat = rows.documents is None and not isinstance(task, CausalLM)
    recorded = shapes_repeat and kernels.recorded(chosen, training, processes.count)
    built = optimizer.build(
        options.optimizer,
        model,
        learning_rate=rate,
        weight_decay=float(options.weight_decay),
        recorded=recorded,
        fused=strategy.fused,
    )
    rows = with_vectors(
        rows,
        task,
        parent,
        step_rows=sampler.step_units,
        batch_size=options.batch_size,
        device=device,
        processes=processes,
    )
    distilled = distillation.wanted(training.retention, seeded=given.seeded_head)
    if distilled is not None:
        rows = distillation.taught(
            rows,
            task,
            model,
            outputs=task_of(before).width,
            batch_size=options.batch_size,
            processes=processes,
        )
    epochs = total / sampler.steps_per_epoch
    stored: dict[str, str | int] = {}
    if processes.count == 1:  # else each would compute and store those of all rows
        rows, stored = _store_lower_outputs(
            rows, model, training, chosen=chosen, epochs=epochs, scratch=scratch
        )
    if labelled := pseudo_labels.digest(rows):
        stored["pseudoLabels"] = labelled
    objective, passes = _objective(
        task, model, training, distilled=distilled, chosen=chosen, strategy=strategy
    )
    checkpoints = Checkpoints(
        folder=_folder(given.checkpoints),
        scratch=_checkpoint_scratch(run, scratch, processes),
        identity=identity(run.recipe, given),
        environment=kernels.environment(chosen, options, processes.count) | stored,
        keep=training.checkpoint.keep,
        files=strategy.files,
        processes=processes,
    )
    return Session(
        task=task,
        model=model,
        load=load,
        run=Run(
            model,
            built,
            chosen,
            _early_stopping(run.recipe, task, model, rows, last=total, processes=processes),
            averaging.of(training.robustness, model, total=total),
            method.each_step(model, training, total=total),
            gradual_pruning.of(training.pruning, model, total=total),
        ),
        rows=rows,
        sampler=sampler,
        total=total,
        objective=objective,
        passes=passes,
        penalty=penalty.of(training.retention, given, model, chosen, leads=processes.leads),
        processes=processes,
        strategy=strategy,
        augmentation=augmentation.of(
            training.robustness, load_tokenizer(parent), seed=options.seed
        ),
        recorded=recorded,
        options=options,
        learning_rate=rate,
        checkpoints=checkpoints,
        checkpoint_every=training.checkpoint.every_steps,
        measured={"groups_without_loss": float(rows.without_loss)} if task.grouping else {},
    )


def _objective(
    task: Task,
    model: PreTrainedModel,
    training: Training,
    *,
    distilled: Distillation | None,
    chosen: precision.Precision,
    strategy: Strategy,
) -> tuple[Objective, Passes]:
    """Return the loss of a batch, and what iterates over the batches of a step."""
    if isinstance(task, Embedding) and task.trains_documents:
        both = CachedGradients(model, task, chosen)
        return both.objective, both.passes
    own = distillation.of(distilled, task)
    objective = adversarial.of(training.robustness, own, scale=chosen.scaler.scale)
    return strategy.learn(model, objective)


def _check_options(task: Task, training: Training, processes: Processes) -> None:
    """Refuse what a task is not trained with."""
    robust, kept, wrong = training.robustness, training.retention, ""
    both = isinstance(task, Embedding) and task.trains_documents
    if training.unlabelled and type(task) is not Classification:
        wrong = "unlabelled"
    if isinstance(task, Embedding | CausalLM) and training.parallelism.type == "FSDP":
        wrong = "parallelism.type"
    if isinstance(task, CausalLM) and robust and robust.augmentation:
        wrong = "robustness.augmentation"
    if both and robust and robust.adversarial:
        wrong = "robustness.adversarial"
    if isinstance(task, Embedding) and kept and (kept.distillation or kept.ewc):
        wrong = f"retention.{'distillation' if kept.distillation else 'ewc'}"
    if both and processes.count > 1:
        wrong = "compute.gpusPerNode"
    if wrong:
        name = type(task).__name__ + (" with trainTower Both" if both else "")
        value = {"parallelism.type": " FSDP", "compute.gpusPerNode": " above 1"}.get(wrong, "")
        message = f"task {name} is not trained with {wrong}{value}; change one of them"
        raise Refused("UnsupportedOption", message, f"spec.training.{wrong}")


def _sampler(
    rows: TrainingRows,
    task: Task,
    options: Hyperparameters,
    *,
    given: TrainInput,
    device: torch.device,
    processes: Processes,
) -> StepSampler:
    """Return which rows make up which step, and which of them a forward pass."""
    step = min(options.batch_size * options.gradient_accumulation, len(rows.units))
    limits = pass_limits(
        task.grouping.max_rows if task.grouping else options.batch_size,
        int(rows.units.longest(rows.examples.tokens.lengths).max()),
        divisor=given.batch_divisor,
        device=device,
        step=-(-step // processes.count) * int(np.diff(rows.units.starts).max()),
    )
    return StepSampler(
        units=rows.units,
        manifest=given.data.digest,
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
    recipe: Recipe,
    task: Task,
    model: PreTrainedModel,
    rows: TrainingRows,
    *,
    last: int,
    processes: Processes,
) -> EarlyStopping | None:
    """Return the early stopping that the recipe asks for, by a metric on the validation split."""
    wanted = recipe.training.early_stopping
    if wanted is None:
        return None
    metric = wanted.metric or EARLY_STOPPING_METRIC[recipe.model.task]
    options = recipe.training.hyperparameters
    measure = partial(
        validate, task, model, rows, options=options, metric=metric, processes=processes
    )
    return EarlyStopping(wanted, model, metric=metric, last=last, measure=measure)


def _store_lower_outputs(
    rows: TrainingRows,
    model: PreTrainedModel,
    training: Training,
    *,
    chosen: precision.Precision,
    epochs: float,
    scratch: Path,
) -> tuple[TrainingRows, dict[str, str | int]]:
    """Store the outputs of frozen lower layers for the rows that are read more than once.

    Validation is FP32. Returns the rows, and what bit-equal weights depend on because of this.
    """
    wanted = [Wanted("training", rows.units.rows, chosen.forward)] if epochs > 1 else []
    wanted.append(Wanted("validation", rows.validation))
    layers = lower_part(model, training.hyperparameters)
    if not layers or not any(len(each.rows) for each in wanted):
        return rows, {}
    tokens = store(model, layers, rows.examples.tokens, wanted=wanted, scratch=scratch)
    if tokens is rows.examples.tokens:
        return rows, {}
    return replace(rows, examples=replace(rows.examples, tokens=tokens)), {"lowerOutputs": 1}


def _given(run: RunFile) -> TrainInput:
    if run.train is None:
        raise Refused("InvalidRunFile", "stage train needs the block train in run.json")
    return run.train


def _folder(location: str) -> Path:
    """Return the folder of the checkpoints from a path or a URI."""
    return local_place(location) if "://" in location else Path(location)
