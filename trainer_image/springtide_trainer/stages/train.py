"""Trains a candidate: fine-tunes the live generation's weights on the rows of the window.

Equal recipe, rows, parent and hardware give equal weights, even if the pod is killed and resumed:
on a CPU always, on a GPU with `deterministic: true`.
"""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING

import torch

from springtide_api.contract import TrainOutput
from springtide_api.retained import ALPHA, VALIDATION_OF_ALPHA
from springtide_trainer.artifact import manifest, saving
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.data.snapshots import next_buffer, replay_buffer
from springtide_trainer.errors import Refused
from springtide_trainer.methods import adapter
from springtide_trainer.methods.table import METHODS
from springtide_trainer.optimise.form import commit_form
from springtide_trainer.processes import ALONE
from springtide_trainer.storage import local_path
from springtide_trainer.tasks.embedding import Embedding
from springtide_trainer.tracking.report import reporting
from springtide_trainer.training import fit, interpolation, session, warm_start
from springtide_trainer.training.engine.finite_checks import check_tensors
from springtide_trainer.training.engine.kernels import training_kernels
from springtide_trainer.training.retention import fisher_information
from springtide_trainer.training.rows import pseudo_labels
from springtide_trainer.training.rows.token_shards import Shards
from springtide_trainer.training.rows.units import scored_rows

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from springtide_api.contract import CommittedArtifact, RunFile, TrainInput
    from springtide_api.generation.spec import Recipe, ReplayBuffer
    from springtide_api.update.compute import Compute
    from springtide_trainer.data.snapshots.replay_buffer import Held
    from springtide_trainer.processes import Processes
    from springtide_trainer.storage import Home
    from springtide_trainer.tasks.task import Task
    from springtide_trainer.training.rows.training_rows import TrainingRows

log = logging.getLogger(__name__)


def train(run: RunFile, home: Home, tmp: Path) -> TrainOutput:
    """Train in one process; see `train_together`."""
    made = train_together(ALONE, run, home, tmp)
    assert made is not None
    return made


def train_together(processes: Processes, run: RunFile, home: Home, tmp: Path) -> TrainOutput | None:
    """Train from the parent's weights; the first process commits the artifact.

    Returns:
        What was made; None in all processes but the first.

    Raises:
        Refused: parent, rows and recipe do not match.
        Diverged: loss, gradients or weights are no longer finite.
        Interrupted: SIGTERM was received; a checkpoint is saved.
    """
    if run.train is None:
        raise Refused("InvalidRunFile", "stage train needs the block train in run.json")
    began = time.monotonic()
    with processes.first_alone():
        parent = local_path(run.train.parent.uri)
        manifest.verify(parent, run.train.parent.digest)
        data = local_path(run.train.data.uri)
        held, digest = held_rows(run.recipe, run.train), run.train.data.digest
    device = device_of(run.recipe.training.compute)
    options = run.recipe.training.hyperparameters
    rows = pseudo_labels.load(
        data,
        digest,
        run.recipe,
        parent=pseudo_labels.Parent(
            parent,
            run.train.seeded_head,
            device,
            run.train.batch_divisor,
            kernels=partial(training_kernels, device, options=options),
        ),
        scratch=tmp,
        held=held,
        processes=processes,
        shards=Shards.of(run, home),
    )
    longest = int(rows.examples.tokens.lengths.max())
    with (
        reporting(run, home, tmp, leads=processes.leads) as report,
        training_kernels(device, longest, options),
    ):
        ready = session.prepare(run, rows, parent, device=device, scratch=tmp, processes=processes)
        outcome = fit.fit(ready, report)
        _interpolate(ready, parent, run.recipe)
        report.add(outcome.step, {f"result/{name}": of for name, of in ready.measured.items()})
        model = ready.strategy.collect(ready.model, ready.load)
    processes.leave()
    if not processes.leads:
        return None
    check_tensors(dict(model.named_parameters()), outcome.step)
    written = _write_adapter(model, run.recipe, run.train, tmp / "adapter")
    made = _commit(ready, model, parent, recipe=run.recipe, home=home, folder=tmp / "artifact")
    measured, task = ready.measured, ready.task
    del model, ready  # an optimized form needs memory for further copies of the weights
    fisher = _leave_fisher(made, rows, task, run=run, home=home, folder=tmp / "fisher")
    made = commit_form(made, run.recipe, home, tmp)
    # After the artifact: without one, nothing would ever refer to the buffer or delete it.
    buffer = _leave_buffer(held, run.recipe, run.train, home=home, folder=tmp / "buffer")
    seconds = time.monotonic() - began
    log.info("trained", extra={"digest": made.digest, "steps": outcome.step, **measured})
    return TrainOutput(
        artifact=made,
        steps=outcome.step,
        rows=len(rows.units.rows),
        seconds=seconds,
        metrics=measured,
        stop_reason=outcome.reason,
        replay=rows.replayed,
        pseudo_labels=rows.pseudo_labels,
        buffer=buffer,
        adapter=written.commit(home) if written else None,
        fisher=fisher,
        warnings=report.warnings,
    )


def _interpolate(ready: session.Session, parent: Path, recipe: Recipe) -> None:
    """Take the best weights between parent and trained model, with retention.interpolation."""
    retention, stopping = recipe.training.retention, ready.run.early_stopping
    if retention is None or retention.interpolation is None or stopping is None:
        return
    METHODS[recipe.training.method.type].merge(ready.model)
    # Twice the trained weights and once: the parent's and a copy take their place.
    ready.run.optimizer.state.clear()
    stopping.best.clear()
    alphas = [float(alpha) for alpha in retention.interpolation.alphas]
    tried = interpolation.choose(ready.model, ready.task.load(parent), alphas, stopping=stopping)
    alpha, value = next(iter(tried.items()))
    of_each = {f"{VALIDATION_OF_ALPHA}{each:g}": found for each, found in tried.items()}
    ready.measured.update(of_each | {ALPHA: alpha, "validation": value})
    if ready.penalty is not None:
        ready.measured["ewc_penalty"] = float(ready.penalty.value())


def held_rows(recipe: Recipe, given: TrainInput) -> Held | None:
    """Return the rows that may be replayed; None without replay."""
    if recipe.training.retention is None or recipe.training.retention.replay is None:
        return None
    return replay_buffer.read(given.buffer, recipe, given.quarantined)


def _leave_buffer(
    held: Held | None, recipe: Recipe, given: TrainInput, *, home: Home, folder: Path
) -> ReplayBuffer | None:
    """Commit what the next generation may replay; None without replay."""
    retention = recipe.training.retention
    if held is None or retention is None or retention.replay is None:
        return None
    sample = next_buffer.build(
        next_buffer.Sample(held.table, held.limits),
        local_path(given.data.uri),
        recipe,
        replay=retention.replay,
        quarantined=given.quarantined,
    )
    return replay_buffer.commit(sample, recipe, home, folder)


def _leave_fisher(
    made: CommittedArtifact,
    rows: TrainingRows,
    task: Task,
    *,
    run: RunFile,
    home: Home,
    folder: Path,
) -> str | None:
    """Commit the Fisher information of an artifact for the next generation; None without ewc."""
    retention, given = run.recipe.training.retention, run.train
    if retention is None or retention.ewc is None or given is None:
        return None
    found = fisher_information.measure(
        local_path(made.uri),
        rows,
        task,
        run.recipe.training,
        salt=given.data.digest,
        scored_rows=scored_rows(
            run.recipe.training.hyperparameters.batch_size, given.batch_divisor
        ),
    )
    if given.fisher is not None:
        before = fisher_information.read(given.fisher, of=given.parent.digest)
        found = fisher_information.carried(before, found, gamma=float(retention.ewc.gamma))
    return fisher_information.commit(found, of=made.digest, home=home, folder=folder)


def device_of(compute: Compute) -> torch.device:
    """Return the device of a training: the GPU of this process, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if compute.gpus_per_node:
        # Such a pod holds a GPU and is many times slower: its log is where a user looks.
        log.warning(
            "no GPU is seen, and the training runs on the CPU: look at the image, and at the "
            "device plugin and the driver of the node",
            extra={"gpusPerNode": compute.gpus_per_node},
        )
    return torch.device("cpu")


def _write_adapter(
    model: PreTrainedModel, recipe: Recipe, given: TrainInput, folder: Path
) -> adapter.Written | None:
    """Write what the next generation may continue; None unless lora.continuation is Continue."""
    lora = recipe.training.method.lora
    if lora is None or lora.continuation != "Continue":
        return None
    base = given.adapter.base.digest if given.adapter else given.parent.digest
    return adapter.write(model, folder, base=base, continued=given.adapter is not None)


def _commit(
    ready: session.Session,
    model: PreTrainedModel,
    parent: Path,
    *,
    recipe: Recipe,
    home: Home,
    folder: Path,
) -> CommittedArtifact:
    """Write the candidate, with the parent's tokenizer and configuration."""
    warm_start.restore_dropout(model, parent)
    saving.copy_tokenizer(parent, folder)
    METHODS[recipe.training.method.type].export(model, folder)
    if isinstance(ready.task, Embedding):
        own = ready.task.trains_documents
        saving.write_documents(folder if own else parent, folder)
    Preprocess.of(recipe).model_copy(update=ready.task.kept).write(folder)
    return manifest.commit(folder, home)
