"""Splits the training rows into optimizer steps and padded batches.

A step is a number of units: rows, or whole groups for a task that ranks them. The order is a
function of manifest digest, seed and epoch alone, so any step can be reproduced. The rows of a step
do not depend on how many forward passes they are split into: limits of rows and tokens only cut a
step into passes, and a pass never splits a unit. With several processes each has a share of every
step.
"""

from __future__ import annotations

import hashlib
import math
import sys
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from springtide_trainer.artifact.tokens import Widths
from springtide_trainer.processes import ALONE
from springtide_trainer.tasks.task import Batch
from springtide_trainer.training.rows.units import passes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from numpy.typing import NDArray
    from torch import Tensor

    from springtide_trainer.artifact.joined_tokens import TokenRows
    from springtide_trainer.processes import Processes
    from springtide_trainer.training.rows.documents import Documents
    from springtide_trainer.training.rows.mixture import Mixture
    from springtide_trainer.training.rows.units import Units

    Collate = Callable[[NDArray[Any]], Tensor]
    """From the encoded labels of rows to the labels of a batch."""
    Augment = Callable[[dict[str, Tensor], NDArray[np.int64], int], dict[str, Tensor]]
    """From the inputs of a batch, its rows and the epoch to the inputs that are learnt."""

BUCKET = 50
"""Steps whose units are sorted by length together: little padding, still well shuffled."""


@dataclass(frozen=True)
class Step:
    """The batches of one optimizer step; `number` counts from 1."""

    number: int
    seed: int
    batches: list[Batch]


@dataclass(frozen=True)
class Examples:
    """Rows to train on.

    Attributes:
        tokens: The inputs.
        labels: [rows, ...], as encoded by the task.
        weights: float32 [rows], at least 0; greater than 0 where each row is a unit.
        groups: int64 [rows], the group of each row; None if each row is a unit.
        terms: int64 [rows], how many terms of the loss a row has, at least 1; None: each unit is
            one.
        documents: The documents of the rows; None for a task without documents.
        taught: float32 [rows, outputs], the parent's logits; None without distillation.
    """

    tokens: TokenRows
    labels: NDArray[Any]
    weights: NDArray[np.float32]
    groups: NDArray[np.int64] | None = None
    documents: Documents | None = None
    terms: NDArray[np.int64] | None = None
    taught: NDArray[np.float32] | None = None

    def mean_weight(self, units: Units) -> float:
        """Average the weights of all units; of their terms, where a row has several."""
        if self.terms is None:
            return float(units.mean(self.weights).mean(dtype=np.float64))
        return float(np.average(self.weights[units.rows], weights=self.terms[units.rows]))

    def counted(self, rows: NDArray[np.int64], units: int) -> int:
        """Return by how much the loss of a step is divided: its terms, or its units."""
        return units if self.terms is None else int(self.terms[rows].sum())


@dataclass(frozen=True)
class StepSampler:
    """Samples the units of each step.

    Attributes:
        units: The rows to train on, divided into units.
        manifest: Digest of the frozen rows.
        seed: Seed of the recipe.
        batch_size: Units of a step, for each forward pass that is accumulated.
        accumulation: Number of those.
        pass_rows: Maximum rows of one forward pass.
        pass_tokens: Maximum tokens of one forward pass, with padding. None: any number.
        mixture: The sources of the units. None: there is one.
    """

    units: Units
    manifest: str
    seed: int
    batch_size: int
    accumulation: int
    pass_rows: int
    pass_tokens: int | None = None
    mixture: Mixture | None = None

    @property
    def step_units(self) -> int:
        """Units of one step; the last of an epoch may have fewer."""
        return self.batch_size * self.accumulation

    @property
    def step_rows(self) -> float:
        """Rows of one step, on average."""
        return min(self.step_units, len(self.units)) * (len(self.units.rows) / len(self.units))

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps that use every unit once."""
        return math.ceil(len(self.units) / self.step_units)

    def epoch(self, number: int, lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the units of each step of an epoch. Units of similar length are in one step.

        Args:
            number: The epoch, from 0.
            lengths: int64 [units], tokens of the longest row of each unit.
        """
        rng = np.random.default_rng(_seed(self.manifest, self.seed, number))
        shuffled = self.mixture.order(rng) if self.mixture else rng.permutation(len(self.units))
        steps: list[NDArray[np.int64]] = []
        for start in range(0, len(shuffled), BUCKET * self.step_units):
            bucket = shuffled[start : start + BUCKET * self.step_units]
            bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
            steps += [
                bucket[first : first + self.step_units]
                for first in range(0, len(bucket), self.step_units)
            ]
        return [steps[index] for index in rng.permutation(len(steps))]


def steps(
    examples: Examples,
    sampler: StepSampler,
    *,
    collate: Collate,
    first: int,
    last: int,
    multiple: int = 1,
    augment: Augment | None = None,
    processes: Processes = ALONE,
) -> Generator[Step]:
    """Yield the steps from `first` to `last`, counted from 1, both included.

    Passes are as wide as their longest row, or the next multiple of `multiple`. `augment` keeps
    their shape. With several processes, a step has the batches of this one; all have equally many
    passes, and each has other random numbers.
    """
    units = sampler.units
    lengths = units.longest(examples.tokens.lengths)
    widths = Widths(multiple, int(lengths.max(initial=0)))
    mean = examples.mean_weight(units)
    limited = partial(passes, rows=sampler.pass_rows, tokens=sampler.pass_tokens or sys.maxsize)
    current, order = -1, [np.empty(0, dtype=np.int64)]

    def cut(chosen: NDArray[np.int64]) -> list[slice]:
        if not len(chosen):
            return []
        return [*limited(units.sizes(chosen), widths.of(lengths[chosen]))]

    def texts(of_length: NDArray[np.int64]) -> list[slice]:
        return [*limited(np.ones_like(of_length), of_length)]

    for number in range(first, last + 1):
        epoch, index = divmod(number - 1, sampler.steps_per_epoch)
        if epoch != current:
            current, order = epoch, sampler.epoch(epoch, lengths)
        inputs = partial(_inputs, examples.tokens, widths=widths, augment=augment, epoch=epoch)
        batches = partial(
            _batches, examples, units, of=order[index], mean=mean, collate=collate, inputs=inputs
        )
        own = _of_process(order[index], cut, batches, processes)
        if examples.documents is not None:
            own += examples.documents.passes(units.rows_of(order[index]), texts)
        chance = (number,) if processes.leads else (number, processes.rank)
        yield Step(number, _seed(sampler.seed, *chance), own)


def _of_process(
    step: NDArray[np.int64],
    cut: Callable[[NDArray[np.int64]], list[slice]],
    batches: Callable[[NDArray[np.int64], list[slice]], list[Batch]],
    processes: Processes,
) -> list[Batch]:
    """Return the passes of this process.

    A process with fewer passes than another one, or without rows, computes the first unit of the
    step with the factor 0, so that all of them have as many: none waits for a pass of another.

    Args:
        step: The units of the step.
        cut: Cuts units into passes.
        batches: Returns the passes of units.
        processes: This process among all.
    """
    every = [cut(processes.share(step, rank)) for rank in range(processes.count)]
    made = batches(processes.share(step), every[processes.rank])
    missing = max(map(len, every)) - len(made)
    if missing:
        (idle,) = batches(step[:1], [slice(0, 1)])
        made += [replace(idle, weights=torch.zeros_like(idle.weights))] * missing
    return made


def _batches(
    examples: Examples,
    units: Units,
    chosen: NDArray[np.int64],
    cut: list[slice],
    *,
    of: NDArray[np.int64],
    collate: Collate,
    mean: float,
    inputs: Callable[[NDArray[np.int64]], dict[str, Tensor]],
) -> list[Batch]:
    """Return the forward passes of some units of a step.

    The factor of a row is its weight divided by the number of units in the step (`of`) times the
    mean weight of the units of the epoch, and by the rows of its unit, so that each group counts
    once. Where a row has several terms, such as the tokens of a response, each term of the step
    counts once, and the factor multiplies their sum. Dividing by the sum of weights of the step
    instead would give a step of low weights the same influence as a step of high weights.
    """
    sizes, rows = units.sizes(chosen), units.rows_of(chosen)
    step, documents, taught = units.rows_of(of), examples.documents, examples.taught
    factors = (examples.weights[rows] / (examples.counted(step, len(of)) * mean)).astype(np.float32)
    if units.grouped:
        factors /= np.repeat(sizes, sizes).astype(np.float32)
    ends = np.append(0, np.cumsum(sizes))
    batches = []
    for part in cut:
        inside = slice(ends[part.start], ends[part.stop])
        batch = Batch(
            inputs=inputs(rows[inside]),
            labels=collate(examples.labels[rows[inside]]),
            weights=torch.from_numpy(factors[inside]),
            groups=tuple(sizes[part].tolist()) if units.grouped else (),
            candidates=documents.candidates(step, rows[inside]) if documents else None,
            taught=None if taught is None else torch.from_numpy(taught[rows[inside]]),
        )
        batches.append(batch)
    return batches


def _inputs(
    tokens: TokenRows,
    rows: NDArray[np.int64],
    *,
    widths: Widths,
    augment: Augment | None,
    epoch: int,
) -> dict[str, Tensor]:
    """Return the inputs of a pass."""
    made = tokens.batch(rows, widths)
    return augment(made, rows, epoch) if augment else made


def _seed(*parts: str | int) -> int:
    """Hash the parts to a seed of 63 bits."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
