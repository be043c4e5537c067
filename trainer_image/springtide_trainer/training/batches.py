"""Splits the training rows into optimizer steps and padded batches.

The order is a function of manifest digest, seed and epoch alone, so any step can be reproduced.
The rows of a step do not depend on how many forward passes they are split into.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from springtide_trainer.tasks.task import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from springtide_trainer.artifact.tokens import Tokens

    Collate = Callable[[NDArray[Any]], Tensor]
    """From the encoded labels of rows to the labels of a batch."""

BUCKET = 50
"""Steps whose rows are sorted by length together: little padding, still well shuffled."""


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
        weights: float32 [rows], greater than 0.
    """

    tokens: Tokens
    labels: NDArray[Any]
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class StepSampler:
    """Samples the rows of each step.

    Attributes:
        rows: int64 [n], indices of the examples to train on.
        manifest: Digest of the frozen rows.
        seed: Seed of the recipe.
        batch_size: Rows of one forward pass.
        accumulation: Forward passes of one step.
        divisor: Forward passes that each of those is split into, to save memory.
    """

    rows: NDArray[np.int64]
    manifest: str
    seed: int
    batch_size: int
    accumulation: int = 1
    divisor: int = 1

    @property
    def step_rows(self) -> int:
        """Rows of one step; the last of an epoch may have fewer."""
        return self.batch_size * self.accumulation

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps that use every row once."""
        return math.ceil(len(self.rows) / self.step_rows)

    def epoch(self, number: int, lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the rows of each step of an epoch. Rows of similar length are in one step.

        Args:
            number: The epoch, from 0.
            lengths: int64 [all rows], tokens of each row.
        """
        rng = np.random.default_rng(_seed(self.manifest, self.seed, number))
        shuffled = rng.permutation(self.rows)
        steps: list[NDArray[np.int64]] = []
        for start in range(0, len(shuffled), BUCKET * self.step_rows):
            bucket = shuffled[start : start + BUCKET * self.step_rows]
            bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
            steps += [
                bucket[first : first + self.step_rows]
                for first in range(0, len(bucket), self.step_rows)
            ]
        return [steps[index] for index in rng.permutation(len(steps))]


def steps(
    examples: Examples, sampler: StepSampler, *, collate: Collate, first: int, last: int
) -> Iterator[Step]:
    """Yield the steps from `first` to `last`, counted from 1, both included."""
    lengths = examples.tokens.lengths
    size = math.ceil(sampler.batch_size / sampler.divisor)
    mean = float(examples.weights[sampler.rows].mean(dtype=np.float64))
    current, order = -1, [sampler.rows]
    for number in range(first, last + 1):
        epoch, index = divmod(number - 1, sampler.steps_per_epoch)
        if epoch != current:
            current, order = epoch, sampler.epoch(epoch, lengths)
        batches = _split(examples, order[index], collate=collate, size=size, mean=mean)
        yield Step(number, _seed(sampler.seed, number), batches)


def _split(
    examples: Examples, rows: NDArray[np.int64], *, collate: Collate, size: int, mean: float
) -> list[Batch]:
    """Split a step into forward passes.

    The factor of a row is its weight divided by the number of rows in the step times the mean
    weight of the epoch. Dividing by the sum of weights of the step instead would give a step of
    low weights the same influence as a step of high weights.
    """
    factors = (examples.weights[rows] / (len(rows) * mean)).astype(np.float32)
    batches = []
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        batch = Batch(
            inputs=examples.tokens.batch(chosen),
            labels=collate(examples.labels[chosen]),
            weights=torch.from_numpy(factors[start : start + size]),
        )
        batches.append(batch)
    return batches


def _seed(*parts: str | int) -> int:
    """Hash the parts to a seed of 63 bits."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
