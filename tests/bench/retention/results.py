"""The results of the benchmarks of retention as plain JSON, from which `sections` makes a page."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from statistics import mean
from typing import TYPE_CHECKING, Any

from bench.training import page
from bench.training.machine import facts

if TYPE_CHECKING:
    import argparse

    from springtide_api.contract import TrainOutput


@dataclass
class Side:
    """One way to train, and what came out, each for every seed.

    Attributes:
        about: What it does, in a sentence.
        found: What the last model predicts of the held-out rows: an array of [rows].
        quality: Of the last model on the held-out rows.
        steps: The quality after each step; empty if only the last one is scored.
        last_rows: Rows of the last training.
        all_rows: Rows of all trainings.
        seconds: CPU seconds of all trainings.
        loss: How much worse than the joint training: mean, lower and upper bound.
    """

    name: str
    about: str
    found: list[Any] = field(default_factory=list)
    quality: list[float] = field(default_factory=list)
    steps: list[list[float]] = field(default_factory=list)
    last_rows: list[int] = field(default_factory=list)
    all_rows: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    loss: tuple[float, float, float] | None = None

    def keep(self, made: list[TrainOutput], seconds: float) -> None:
        """Keep what the trainings of a seed took."""
        self.last_rows.append(made[-1].rows)
        self.all_rows.append(sum(each.rows for each in made))
        self.seconds.append(round(seconds, 1))

    @property
    def plain(self) -> dict[str, Any]:
        """All but the predictions."""
        return {
            "name": self.name,
            "about": self.about,
            "quality": [round(each, 6) for each in self.quality],
            "steps": [[round(each, 6) for each in seed] for seed in self.steps],
            "last_rows": self.last_rows,
            "all_rows": self.all_rows,
            "seconds": self.seconds,
            "loss": self.loss and [round(each, 6) for each in self.loss],
        }


@dataclass(frozen=True)
class Target:
    """A number that a benchmark must reach.

    Attributes:
        least: Whether the number must be at least the limit; else at most.
    """

    what: str
    found: float
    limit: float
    least: bool = False

    @property
    def met(self) -> bool:
        """Return whether the number is within its limit."""
        return self.found >= self.limit if self.least else self.found <= self.limit

    @property
    def plain(self) -> dict[str, Any]:
        """The target with its result."""
        return {
            "what": self.what,
            "found": round(self.found, 6),
            "limit": self.limit,
            "least": self.least,
            "met": self.met,
        }


@dataclass(frozen=True)
class Benchmark:
    """What a benchmark of retention measures.

    Attributes:
        name: Of the file of its results.
        quality: The metric of the models, such as AUC.
        about: The rows, and what is compared, in some sentences.
    """

    name: str
    title: str
    quality: str
    about: str

    def result(
        self, sides: list[Side], targets: list[Target], given: argparse.Namespace, **sizes: int
    ) -> dict[str, Any]:
        """Return all that the page says."""
        settings = {
            name: value
            for name, value in vars(given).items()
            if name not in {"write", "processes"} and value is not None
        }
        settings["seeds"] = len(sides[0].quality)
        return {
            "title": self.title,
            "quality": self.quality,
            "about": self.about,
            "machine": facts(1),
            "settings": settings,
            "sizes": sizes,
            "sides": [side.plain for side in sides],
            "targets": [target.plain for target in targets],
        }

    def write(self, result: dict[str, Any]) -> None:
        """Write the result, and docs/benchmarks.md, into the checkout."""
        text = json.dumps(result, indent=1) + "\n"
        (page.RESULTS / f"{self.name}.json").write_text(text, encoding="utf-8")
        page.main()


def share_of_rows(side: Side, joint: Side) -> float:
    """Return the rows of the last training of a side, as a share of the joint training's."""
    return mean(side.last_rows) / mean(joint.last_rows)
