"""Takes the sides of the benchmarks in turns, and what all sides of one round share.

Every round has rows of its own, of which the number of the round is the seed, and the weights that
all sides start from. The order of the sides is reversed in every second round.
"""

from __future__ import annotations

import gc
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.relevance import LABELS, texts, weights
from trainer.training.conftest import World, freeze, imported

from springtide_trainer.artifact.models import load_tokenizer
from springtide_trainer.storage import Home, local_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@dataclass(frozen=True)
class Sizes:
    """Numbers of rows, of each round.

    Attributes:
        trained: Rows of one epoch of a training.
        held_out: Rows on which the AUC is measured; the same in all rounds.
        scored: Rows that each model scores.
        assembled: Rows from which batches are assembled.
    """

    trained: int = 1024
    held_out: int = 1000
    scored: int = 1000
    assembled: int = 1_000_000


WARM_UP = Sizes(32, 32, 32, 32)
"""Round 0 loads libraries and is not counted."""


class Round:
    """What all sides of one round share.

    Attributes:
        number: Number of the round, and seed of its rows and of its trainings.
        sizes: Numbers of rows.
        home: A storage of this round.
        model: The weights that all sides start from, imported into it.
        parent: Their folder.
    """

    def __init__(self, folder: Path, number: int, sizes: Sizes) -> None:
        self.number = number
        self.sizes = sizes
        self.home = Home(folder)
        self.model = imported(weights(), self.home)
        self.parent = local_path(self.model.uri)

    @cached_property
    def trained(self) -> tuple[list[str], list[int]]:
        """Texts and labels to train on."""
        return texts(load_tokenizer(self.parent), self.sizes.trained, self.number)

    @cached_property
    def world(self) -> World:
        """The rows to train on, frozen as by a probe."""
        some, labels = self.trained
        table = {
            "text": some,
            "label": [LABELS[label] for label in labels],
            "entity": [str(row) for row in range(len(some))],
        }
        return World(self.home, self.model, freeze(self.home, table))


@dataclass
class Clock:
    """Processor seconds of this process, of all its threads."""

    seconds: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the seconds of a block."""
        began = time.process_time()
        yield
        self.seconds += time.process_time() - began


@dataclass(frozen=True)
class Side:
    """One way to do the work.

    Attributes:
        name: Its name.
        about: What it does, with all that differs from the other sides.
        measure: Does the work with the clock running for what counts; returns the number of rows
            that it handled, and its result for `Benchmark.quality`.
    """

    name: str
    about: str
    measure: Callable[[Round, Clock], tuple[int, Any]]


@dataclass(frozen=True)
class Comparison:
    """Two sides whose ratio counts.

    Attributes:
        what: What both do.
        ours: Name of the side of this trainer.
        other: Name of the other side.
        least: The ratio to reach.
        least_bf16: The ratio to reach on a processor with AVX512-BF16 or AMX, if it is another.
    """

    what: str
    ours: str
    other: str
    least: float | None = None
    least_bf16: float | None = None


@dataclass(frozen=True)
class Quality:
    """A number of each result, which must not differ between compared sides.

    Attributes:
        name: Its name.
        tolerance: How much lower it may be than that of the other side, as a mean over the rounds.
        of: Returns it for each side's result.
    """

    name: str
    tolerance: float
    of: Callable[[Round, dict[str, Any]], dict[str, float]]


@dataclass(frozen=True)
class Benchmark:
    """Sides that do the same work.

    Attributes:
        name: Name of the file of its results.
        title: What is measured.
        sides: They take turns.
        comparisons: The ratios that count.
        quality: What must be equal.
        sizes: Names of the sizes that it uses.
    """

    name: str
    title: str
    sides: Sequence[Side]
    comparisons: Sequence[Comparison]
    quality: Quality
    sizes: Sequence[str]


@dataclass
class Measured:
    """One side in one round."""

    round: int
    side: str
    rows: int
    cpu_seconds: float
    quality: float = field(default=float("nan"))

    @property
    def rate(self) -> float:
        """Rows per processor second."""
        return self.rows / self.cpu_seconds


def rounds(
    benchmarks: Sequence[Benchmark], sizes: Sizes, count: int
) -> Iterator[tuple[Benchmark, list[Measured]]]:
    """Run all sides of all benchmarks in turns; yield what each measured in each round."""
    for number in range(count + 1):
        with tempfile.TemporaryDirectory() as folder:
            shared = Round(Path(folder), number, sizes if number else WARM_UP)
            for benchmark in benchmarks:
                measured = _take_turns(benchmark, shared)
                if number:
                    yield benchmark, measured


def _take_turns(benchmark: Benchmark, shared: Round) -> list[Measured]:
    """Measure each side of a benchmark once."""
    measured, results = [], {}
    for side in benchmark.sides[:: -1 if shared.number % 2 == 0 else 1]:
        gc.collect()
        clock = Clock()
        rows, results[side.name] = side.measure(shared, clock)
        measured.append(Measured(shared.number, side.name, rows, clock.seconds))
    values = benchmark.quality.of(shared, results)
    for each in measured:
        each.quality = values[each.side]
    return measured
