"""Which rows make up which step, and how they are padded.

The order is a function of manifest digest, seed and epoch; nothing else, so any step can be made
again. A step's rows do not depend on how many forward passes they are cut into.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

    from springtide_trainer.artifact.tokens import Tokens

BUCKET = 50
"""Steps whose rows are sorted by length together: little padding, and still well mixed."""


@dataclass(frozen=True)
class Batch:
    """Rows of one forward pass.

    Attributes:
        inputs: int64 [rows, tokens] of each input of the model.
        labels: int64 [rows].
        weights: float32 [rows], the part of each row in the loss of its step.
    """

    inputs: dict[str, Tensor]
    labels: Tensor
    weights: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        inputs = {name: value.to(device, non_blocking=True) for name, value in self.inputs.items()}
        return Batch(inputs, self.labels.to(device), self.weights.to(device))


@dataclass(frozen=True)
class Step:
    """What one step of the optimiser sees; `number` counts from 1."""

    number: int
    seed: int
    batches: list[Batch]


@dataclass(frozen=True)
class Examples:
    """Rows to train on.

    Attributes:
        tokens: The inputs.
        labels: int64 [rows].
        weights: float32 [rows], greater than 0.
    """

    tokens: Tokens
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class Plan:
    """The order of the rows, and where a step ends.

    Attributes:
        rows: int64 [n], the rows of the examples that take part.
        manifest: Digest of the frozen rows.
        seed: Seed of the recipe.
        batch_size: Rows of one forward pass.
        accumulation: Forward passes of one step.
        divisor: Forward passes that each of those is cut into, for want of memory.
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
        """Steps in which every row is seen once."""
        return math.ceil(len(self.rows) / self.step_rows)

    def epoch(self, number: int, lengths: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """Return the rows of each step of an epoch, those of like length together.

        Args:
            number: The epoch, from 0.
            lengths: int64 [all rows], tokens of each row.
        """
        chance = np.random.default_rng(_seed(self.manifest, self.seed, number))
        shuffled = chance.permutation(self.rows)
        steps: list[NDArray[np.int64]] = []
        for start in range(0, len(shuffled), BUCKET * self.step_rows):
            bucket = shuffled[start : start + BUCKET * self.step_rows]
            bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
            steps += [
                bucket[first : first + self.step_rows]
                for first in range(0, len(bucket), self.step_rows)
            ]
        return [steps[place] for place in chance.permutation(len(steps))]


def steps(examples: Examples, plan: Plan, *, first: int, last: int) -> Iterator[Step]:
    """Make the steps from `first` to `last`, both counted from 1 and included."""
    lengths = examples.tokens.lengths
    size = math.ceil(plan.batch_size / plan.divisor)
    mean = float(examples.weights[plan.rows].mean(dtype=np.float64))
    made, order = -1, [plan.rows]
    for number in range(first, last + 1):
        epoch, place = divmod(number - 1, plan.steps_per_epoch)
        if epoch != made:
            made, order = epoch, plan.epoch(epoch, lengths)
        yield Step(number, _seed(plan.seed, number), _cut(examples, order[place], size, mean))


def _cut(examples: Examples, rows: NDArray[np.int64], size: int, mean: float) -> list[Batch]:
    """Cut a step into forward passes.

    A row's part is its weight over the step's rows times the mean weight of the epoch. Divided by
    the step's own sum of weights, a step of light rows would count as much as one of heavy rows.
    """
    parts = (examples.weights[rows] / (len(rows) * mean)).astype(np.float32)
    batches = []
    for start in range(0, len(rows), size):
        chosen = rows[start : start + size]
        batch = Batch(
            inputs=examples.tokens.batch(chosen),
            labels=torch.from_numpy(examples.labels[chosen]),
            weights=torch.from_numpy(parts[start : start + size]),
        )
        batches.append(batch)
    return batches


def _seed(*parts: str | int) -> int:
    """Mix parts into a seed of 63 bits."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1
