"""The diagonal of the Fisher information: how much predictions depend on each trained weight.

It is computed at the end of a training, added to that of the parent, which counts gamma (online
EWC, Schwarz et al. 2018, section 3.2), and committed for the next generation. It belongs to the
weights of its generation, from which the next training starts.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from springtide_trainer.artifact import manifest
from springtide_trainer.artifact.models import move
from springtide_trainer.errors import Refused
from springtide_trainer.methods.full import freeze
from springtide_trainer.storage import local_path
from springtide_trainer.training.engine.kernels import training_kernels
from springtide_trainer.training.optimizer import trainable_parameters
from springtide_trainer.training.retention.likelihoods import NEGATIVE_LOG_LIKELIHOODS
from springtide_trainer.training.retention.unit_gradients import UnitGradients
from springtide_trainer.training.rows.units import passes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedModel

    from springtide_api.contract import ArtifactRef
    from springtide_api.update.training import Training
    from springtide_trainer.storage import Home
    from springtide_trainer.tasks.task import Task
    from springtide_trainer.training.rows.training_rows import TrainingRows

log = logging.getLogger(__name__)

PASS_ROWS = 16
"""Rows of a pass, at most. A weight is read once for a pass; more rows hardly save more time."""
TOLERANCE = 1e-3
"""How far a gradient may be off, as a fraction of the largest one of its parameter."""
VALUES = "fisher.safetensors"
SETTINGS = "fisher.json"
_OF = "weights"
"""The setting with the digest of the weights that the values belong to."""
_FIELD = "spec.training.retention.ewc"
_REMOVE = (
    "remove training.retention.ewc (training.retention, if it has nothing else) until the next "
    "generation is live"
)


def measure(
    artifact: Path,
    rows: TrainingRows,
    task: Task,
    training: Training,
    *,
    salt: str,
    scored_rows: int,
) -> dict[str, Tensor]:
    """Compute the diagonal of the Fisher information of an artifact's weights.

    Args:
        artifact: Folder of the artifact.
        rows: The rows that it was trained on.
        task: The task.
        training: The recipe's training, with ewc.
        salt: Digest of the window: another one draws other rows.
        scored_rows: Rows of a pass without gradients.

    Returns:
        float32 on the CPU, by the names of the parameters that are not frozen.
    """
    assert training.retention is not None
    assert training.retention.ewc is not None
    began, options = time.monotonic(), training.hyperparameters
    model, longest = task.load(artifact), int(rows.examples.tokens.lengths.max())
    freeze(model, options.freeze)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    seed = (options.seed, int(salt[-16:], 16))
    # Passes of FP32 with all activations, after a training that may have had none to spare.
    most = 1 if options.gradient_checkpointing else min(PASS_ROWS, scored_rows // 2)
    with training_kernels(device, longest, options):
        found = of_rows(
            move(model, device),
            rows,
            task,
            count=training.retention.ewc.rows,
            seed=seed,
            pass_rows=most,
        )
    seconds = round(time.monotonic() - began, 1)
    log.info("computed the Fisher information", extra={"weights": len(found), "seconds": seconds})
    return found


def of_rows(
    model: PreTrainedModel,
    rows: TrainingRows,
    task: Task,
    *,
    count: int,
    seed: tuple[int, ...],
    pass_rows: int = 1,
) -> dict[str, Tensor]:
    """Average the squared gradients of the log-likelihood over a sample of training rows.

    The labels are drawn from the model's own predictions: those of the rows would give another
    matrix, the empirical Fisher information (Kunstner et al. 2019). Rows count by their weights. In
    FP32, without dropout; how the sample is cut into passes changes it by rounding only.

    Args:
        model: The model.
        rows: The training rows.
        task: The task.
        count: Units of the sample, rows or groups, at most.
        seed: Determines sample and labels.
        pass_rows: Rows of a pass, at most; a unit is never cut.
    """
    units = rows.units
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(len(units), min(count, len(units)), replace=False))
    lengths = units.longest(rows.examples.tokens.lengths)[chosen]
    chosen = chosen[np.argsort(lengths, kind="stable")]  # little padding
    drawn = torch.Generator().manual_seed(int(rng.integers(2**63)))
    weights = units.mean(rows.examples.weights)[chosen].astype(np.float64)
    likelihood, shares = NEGATIVE_LOG_LIKELIHOODS[type(task)], weights / weights.sum()
    sample = _Sample(rows, chosen, shares, lambda logits: likelihood(logits, drawn))
    model.train(mode=False)
    several = len(chosen) > 1 and units.sizes(chosen[:2]).sum() <= pass_rows
    several = several and _agree(model, sample)
    found = _zeros(model)
    if several:
        together = UnitGradients(model, found)
        with together.taken():
            for part in passes(
                units.sizes(chosen), np.ones_like(chosen), rows=pass_rows, tokens=sys.maxsize
            ):
                _add_pass(model, sample, part, together)
    else:
        for unit in range(len(chosen)):
            _add_unit(model, sample, unit, found)
    return {name: each.cpu() for name, each in found.items()}


@dataclass(frozen=True)
class _Sample:
    """Units of which the squared gradients are averaged, each with its share of the average."""

    rows: TrainingRows
    units: NDArray[np.int64]
    shares: NDArray[np.float64]
    likelihood: Callable[[Tensor], Tensor]

    def logits(self, model: PreTrainedModel, part: slice) -> Tensor:
        """Compute the logits of the rows of some units."""
        batch = self.rows.examples.tokens.batch(self.rows.units.rows_of(self.units[part]))
        inputs = {name: value.to(model.device) for name, value in batch.items()}
        logits: Tensor = model(**inputs).logits
        return logits.float()


def _zeros(model: PreTrainedModel) -> dict[str, Tensor]:
    return {name: torch.zeros_like(each) for name, each in trainable_parameters(model).items()}


def _add_unit(
    model: PreTrainedModel, sample: _Sample, unit: int, found: Mapping[str, Tensor]
) -> None:
    """Add the squared gradients of a unit by a pass of its own."""
    loss = sample.likelihood(sample.logits(model, slice(unit, unit + 1)))
    parameters = trainable_parameters(model)
    gradients = torch.autograd.grad(loss, [*parameters.values()], allow_unused=True)
    for total, gradient in zip(found.values(), gradients, strict=True):
        if gradient is not None:
            total.addcmul_(gradient, gradient, value=float(sample.shares[unit]))


def _add_pass(
    model: PreTrainedModel, sample: _Sample, part: slice, together: UnitGradients
) -> None:
    """Add the squared gradients of the units of a pass."""
    sizes = sample.rows.units.sizes(sample.units[part]).tolist()
    together.begin(sizes, sample.shares[part].tolist())
    logits = torch.split(sample.logits(model, part), sizes)
    torch.stack([sample.likelihood(each) for each in logits]).sum().backward()  # type: ignore[no-untyped-call]


def _agree(model: PreTrainedModel, sample: _Sample) -> bool:
    """Return whether a pass of two units finds the squared gradients of the first one alone.

    It does not where a model uses weights beside the layers that they are in.
    """
    first = replace(
        sample,
        units=sample.units[:2],
        shares=np.array([1.0, 0.0]),
        likelihood=lambda logits: logits.square().sum(),
    )
    expected, found = _zeros(model), _zeros(model)
    _add_unit(model, first, 0, expected)
    try:
        together = UnitGradients(model, found)
        with together.taken():
            _add_pass(model, first, slice(0, 2), together)
    except (TypeError, RuntimeError, AttributeError, IndexError) as unable:
        log.info("rows are passes by themselves", extra={"reason": str(unable)})
        return False
    sizes = {name: each.sqrt() for name, each in expected.items()}
    least = TOLERANCE / 100 * max(float(each.max()) for each in sizes.values())
    for name, each in sizes.items():
        apart = float((found[name].sqrt() - each).abs().max())
        if not apart <= least + TOLERANCE * float(each.max()):
            log.info("rows are passes by themselves", extra={"reason": f"{name} is off by {apart}"})
            return False
    return True


def carried(
    before: Mapping[str, Tensor], found: Mapping[str, Tensor], *, gamma: float
) -> dict[str, Tensor]:
    """Return gamma times the values of the parent plus those of this generation.

    A parameter that is frozen now keeps what was known of it. Outputs of appended labels have no
    earlier values.

    Args:
        before: The parent's values.
        found: Those of this generation.
        gamma: From 0 to 1.

    Raises:
        Refused: a parameter has another shape.
    """
    made = {name: each.clone() for name, each in found.items()}
    for name, each in before.items():
        if name in made:
            known_part(made[name], each, name).add_(each, alpha=gamma)
        else:
            made[name] = gamma * each
    return made


def known_part(weight: Tensor, before: Tensor, name: str) -> Tensor:
    """Return the part of a parameter that the parent has: without outputs of appended labels.

    Raises:
        Refused: it is not the first rows of the parameter.
    """
    if weight.shape == before.shape:
        return weight
    grown = weight.ndim > 0 and weight.shape[1:] == before.shape[1:]
    if not grown or len(weight) < len(before):
        raise _mismatch(
            f"{name} has shape {list(weight.shape)}, and its Fisher information "
            f"{list(before.shape)}"
        )
    return weight[: len(before)]


def read(given: ArtifactRef, *, of: str) -> dict[str, Tensor]:
    """Read values by the names of their parameters: float32 on the CPU.

    Args:
        given: The folder, which is verified.
        of: Digest of the weights that they must belong to.

    Raises:
        Refused: DigestMismatch if files are missing or damaged, FisherMismatch if the values belong
            to other weights.
    """
    folder = local_path(given.uri)
    try:
        manifest.verify(folder, given.digest)
    except Refused as damaged:
        failure = damaged.failure
        raise Refused(failure.reason, f"{failure.message}, or {_REMOVE}", _FIELD) from damaged
    try:
        settings = json.loads((folder / SETTINGS).read_bytes())
        values = load_file(folder / VALUES)
    except (OSError, ValueError, SafetensorError) as wrong:
        raise _mismatch(f"{folder} has no Fisher information: {wrong}") from wrong
    if (found := settings.get(_OF)) != of:
        raise _mismatch(f"{folder}: the Fisher information is of the weights {found}, not of {of}")
    return values


def commit(values: Mapping[str, Tensor], *, of: str, home: Home, folder: Path) -> str:
    """Move values to the artifacts, under the digest of their content; return it.

    Args:
        values: float32 on the CPU, by the names of the parameters.
        of: Digest of the weights that they belong to.
        home: The folder of the update.
        folder: A folder to create, on the file system of the storage.
    """
    folder.mkdir(parents=True)
    save_file({name: each.contiguous() for name, each in values.items()}, folder / VALUES)
    (folder / SETTINGS).write_text(json.dumps({_OF: of}) + "\n", encoding="utf-8")
    return manifest.commit(folder, home).digest


def _mismatch(what: str) -> Refused:
    return Refused(
        "FisherMismatch", f"{what}; restore the folder from a copy, or {_REMOVE}", _FIELD
    )
