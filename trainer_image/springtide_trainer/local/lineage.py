"""The generations of local runs: one JSON file beside their artifacts.

The rules are those of the operator: a run continues from the newest accepted generation, whose
training rows end at the cursor; what is not accepted moves nothing.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Literal

from pydantic import ValidationError

from springtide_api.contract import CommittedArtifact, WindowFound
from springtide_api.generation.continuation import (
    Adapter,
    Continuation,
    adapter_left,
    continuation,
)
from springtide_api.generation.spec import ReplayBuffer
from springtide_api.generation.status import RuleResult, Score
from springtide_api.retained import Retained
from springtide_api.schema import Model
from springtide_api.update.training import Training
from springtide_judging.regression_reference import reference_number
from springtide_trainer.errors import Refused
from springtide_trainer.storage import LOCAL_RUNS

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from springtide_api.contract import TrainOutput
    from springtide_api.generation.spec import Recipe


class LocalGeneration(Model):
    """One local run, or the imported model."""

    number: int
    recipe: str
    """Digest of what determines weights and verdict; of an import, of its model."""
    source: str = ""
    """URI that it was imported from, on this machine; of an import."""
    parent: int | None = None
    baseline: int | None = None
    reference: int | None = None
    window: WindowFound | None = None
    historical: list[str] = []
    quarantined: list[str] = []
    """Partitions that were left out of its window."""
    artifact: CommittedArtifact | None = None
    buffer: ReplayBuffer | None = None
    """Rows that the next run may replay while this one is its parent."""
    fisher: str | None = None
    """Digest of the Fisher information that the next run may take while this one is its parent."""
    retained: Retained | None = None
    metrics: dict[str, float] = {}
    """Metrics of its training."""
    adapter: Adapter | None = None
    """Adapter that the next run may continue while this one is its parent."""
    training: Training | None = None
    """How it was trained, if it left an adapter."""
    batch_divisor: int = 1
    verdict: Literal["Imported", "Pending", "Accepted", "Rejected", "Inconclusive", "Failed"] = (
        "Pending"
    )
    reason: str = ""
    message: str = ""
    results: list[RuleResult] = []
    scores: list[Score] = []
    """Its scores on the newest holdout that was not suspect."""
    interim_analyses: int = 0
    report: str = ""

    @property
    def name(self) -> str:
        """Return its name, such as g2."""
        return f"g{self.number}"

    @property
    def promoted(self) -> bool:
        """Return whether it was live: accepted, or imported with a trained head."""
        trained = self.artifact is not None and self.artifact.head == "Trained"
        return self.verdict == "Accepted" or (self.verdict == "Imported" and trained)


class Generations(Model):
    """All generations, oldest first."""

    generations: list[LocalGeneration] = []

    @staticmethod
    def read(home: Path) -> Generations:
        """Read the generations of a folder; none if there was no run.

        Raises:
            Refused: the file is damaged.
        """
        try:
            return Generations.model_validate_json((home / LOCAL_RUNS).read_bytes())
        except FileNotFoundError:
            return Generations()
        except ValidationError as wrong:
            message = f"{home / LOCAL_RUNS} is damaged; restore it, or use another --storage"
            raise Refused("CorruptFile", message) from wrong

    def write(self, home: Path) -> None:
        """Write the file; an interrupted write leaves the former one."""
        home.mkdir(parents=True, exist_ok=True)
        written = home / f"{LOCAL_RUNS}.new"
        written.write_text(self.model_dump_json(by_alias=True, indent=1), encoding="utf-8")
        written.replace(home / LOCAL_RUNS)

    def with_(self, changed: LocalGeneration) -> Generations:
        """Return the generations with one added or replaced."""
        others = [each for each in self.generations if each.number != changed.number]
        ordered = sorted([*others, changed], key=lambda each: each.number)
        return Generations(generations=ordered)

    def number(self, number: int | None) -> LocalGeneration | None:
        """Return a generation by its number."""
        return next((each for each in self.generations if each.number == number), None)

    @property
    def imported(self) -> LocalGeneration | None:
        """Return the imported model."""
        return next((each for each in self.generations if each.verdict == "Imported"), None)

    @property
    def live(self) -> LocalGeneration | None:
        """Return the generation that the next one is compared with."""
        return next((each for each in reversed(self.generations) if each.promoted), None)

    @property
    def parent(self) -> LocalGeneration | None:
        """Return the generation whose weights the next one continues from."""
        return self.live or self.imported

    def seeded(self, number: int | None) -> bool:
        """Return whether the head of a generation is untrained."""
        known = self.number(number)
        return bool(known and known.artifact and known.artifact.head == "Seeded")

    @property
    def next_number(self) -> int:
        """Return a number that was never used."""
        return max((each.number for each in self.generations), default=-1) + 1

    def cursor(self, recipe: Recipe) -> datetime | None:
        """Return the time from which rows are new; None if all are."""
        live = self.live
        if live is not None and live.window is not None:
            return live.window.to
        return recipe.model.initial.trained_through

    def recipe(self, declared: Recipe, parent: int | None) -> Recipe:
        """Return the recipe of a run: a Full update where lora.rebaseEvery is reached."""
        known = self.number(parent)
        trained = known.adapter.generations if known and known.adapter else 0
        return declared.model_copy(update={"training": declared.training.rebased(trained)})

    def continuation(self, declared: Recipe, parent: int | None) -> Continuation | None:
        """Return what a run does with the adapter of its parent."""
        known = self.number(parent)
        if known is None:
            return None
        return continuation(
            declared.training,
            self.recipe(declared, parent).training,
            parent=known.name,
            left=known.adapter,
            before=known.training,
        )

    def trained(
        self, generation: LocalGeneration, made: TrainOutput, declared: Recipe
    ) -> LocalGeneration:
        """Return a generation with what its training left."""
        changes: dict[str, object] = {
            "artifact": made.artifact,
            "buffer": made.buffer,
            "fisher": made.fisher,
            "retained": Retained.of(made.replay, made.metrics, made.pseudo_labels),
            "metrics": {name: value for name, value in made.metrics.items() if isfinite(value)},
        }
        parent = self.number(generation.parent)
        if made.adapter and parent and parent.artifact:
            decided = self.continuation(declared, generation.parent)
            changes["adapter"] = adapter_left(
                made.adapter.uri,
                made.adapter.digest,
                made.adapter.base,
                continued=decided.adapter if decided else None,
                parent=parent.artifact.digest,
            )
            changes["training"] = self.recipe(declared, generation.parent).training
        return generation.model_copy(update=changes)

    def pending(self, recipe: str) -> LocalGeneration | None:
        """Return the interrupted run of a recipe that still continues from live."""
        parent = self.parent
        return next(
            (
                each
                for each in self.generations
                if (each.verdict, each.recipe) == ("Pending", recipe)
                and parent is not None
                and each.parent == parent.number
            ),
            None,
        )

    def judged(self, window: WindowFound, recipe: str, parent: int) -> LocalGeneration | None:
        """Return the generation of the same rows, recipe and weights that has a verdict."""
        wanted = (window.digest, recipe, parent)
        return next(
            (
                each
                for each in self.generations
                if each.verdict in {"Accepted", "Rejected", "Inconclusive"}
                and each.window
                and (each.window.digest, each.recipe, each.parent) == wanted
            ),
            None,
        )

    def analyses(self, partitions: list[str]) -> int:
        """Count the interim analyses of holdouts that share a partition with these."""
        return sum(
            each.interim_analyses
            for each in self.generations
            if each.window and {*each.window.holdout_partitions} & {*partitions}
        )

    def historical(self) -> list[str]:
        """Return the historical shards of the lineage, oldest first."""
        live = self.live
        if live is None or live.window is None:
            return []
        own = [live.window.manifest] if live.window.reserved_rows else []
        return [*live.historical, *own][-64:]

    def reference(self, recipe: Recipe) -> LocalGeneration | None:
        """Return the generation that rules with maxCumulativeRegression compare with."""
        promoted = {
            each.number: each.results for each in reversed(self.generations) if each.promoted
        }
        return self.number(reference_number(recipe.gate, recipe.evaluation, promoted))
