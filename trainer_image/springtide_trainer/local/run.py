"""One local run: the stages of the pods in this process, then the verdict of the operator."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from springtide_api.contract import (
    ArtifactRef,
    EvaluateInput,
    ExitCode,
    ImportInput,
    ProbeInput,
    TrainInput,
)
from springtide_judging.interim_analyses import interim_confidence
from springtide_judging.same_weights import kept_start
from springtide_trainer.errors import Refused
from springtide_trainer.local.lineage import Generations, LocalGeneration
from springtide_trainer.local.local_stages import LocalStages, StageFailed
from springtide_trainer.local.verdict import conclude, without_scores

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from springtide_api.contract import ProbeOutput, Result, RunFile
    from springtide_api.generation.spec import Recipe
    from springtide_trainer.local.display import Display
    from springtide_trainer.local.manifest_file import LocalRecipe
    from springtide_trainer.storage import Home

MODEL = "spec.model.initial"


class NoRun(Exception):
    """There is no window to train on; the message says what is missing."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Request:
    """What a run reads.

    Attributes:
        through: Partitions that end after this time are not read. None: all but the newest.
        quarantined: Partitions that are left out.
        excluded: Generations of the update in a cluster: rows that they served are left out.
    """

    through: datetime | None = None
    quarantined: tuple[str, ...] = ()
    excluded: tuple[int, ...] = ()

    @classmethod
    def of(cls, given: argparse.Namespace) -> Request:
        """Return what the options of a command ask for."""
        return cls(given.through, tuple(given.quarantine), tuple(given.exclude_generation))


@dataclass
class LocalRun:
    """A recipe, the folder of its generations, and where its progress is shown."""

    asked: LocalRecipe
    home: Home
    display: Display
    request: Request
    known: Generations

    def run(self) -> tuple[LocalGeneration, bool]:
        """Take the next window to a verdict; resume an interrupted run.

        Returns:
            The generation, and whether its verdict is from an earlier run.

        Raises:
            NoRun: there is no window.
            StageFailed: a stage refused its input, or was interrupted.
        """
        self.import_model()
        generation = self.known.pending(self.asked.digest)
        if generation is None:
            generation = self.next_window()
            if generation.verdict != "Pending":
                return generation, True
            self._keep(generation)
        else:
            self.display.line(f"{generation.name} continues; its window is that of its first start")
        self._train(generation)
        judged = self._evaluate()
        if judged.verdict == "Accepted":
            self._drop_outdated(judged)
        return judged, False

    def _drop_outdated(self, live: LocalGeneration) -> None:
        """End interrupted runs of other recipes: they continue from weights that are not live."""
        for each in self.known.generations:
            if each.verdict == "Pending":
                message = f"{live.name} is live since; this run continued from g{each.parent}"
                self._keep(each.model_copy(update={"verdict": "Failed", "message": message}))
                shutil.rmtree(self.home.checkpoints(each.number), ignore_errors=True)

    def import_model(self) -> None:
        """Import the initial model, once."""
        uri, digest = self.asked.recipe.model.initial.uri, self.asked.recipe.model.initial.digest
        imported = self.known.imported
        if imported is not None:
            if imported.recipe != self.asked.model_digest:
                message = (
                    f"{self.home.path} has generations of another initial model, and the model of "
                    "an update is immutable; use another --storage or metadata.name"
                )
                raise StageFailed("import", Refused("ModelChanged", message, MODEL).failure, 3)
            if imported.source not in {"", uri}:
                self.display.line(
                    f"warning: g0 was imported from {imported.source}, and {uri} is not read; for "
                    "another model use another --storage or metadata.name"
                )
            return
        run = self.stages.run_file("import", 0)
        result = self.stages.run(
            run.model_copy(update={"imported": ImportInput(uri=uri, digest=digest)})
        )
        made = result.imported
        assert made is not None
        new = "layers of keepLayers" if self.asked.recipe.model.keep_layers else "new head"
        head = "trained head" if made.head == "Trained" else f"{new}, untrained"
        self.display.done("import", f"g0, {made.bytes / 1e6:,.1f} MB, {head}")
        self._keep(
            LocalGeneration(
                number=0,
                recipe=self.asked.model_digest,
                source=uri,
                artifact=made,
                verdict="Imported",
            )
        )

    def next_window(self) -> LocalGeneration:
        """Find and freeze the next window; return its generation, or the one judged before.

        Raises:
            NoRun: there is no window.
        """
        parent = self.known.parent
        assert parent is not None
        found = self._probe_output()
        window = found.window
        if window is None or window.to is None:
            raise NoRun(found.reason, found.message)
        self.display.done("probe", found.message)
        before = self.known.judged(window, self.asked.digest, parent.number)
        if before is not None:
            return before
        live = self.known.live
        reference = self.known.reference(self.asked.recipe) if live else None
        return LocalGeneration(
            number=self.known.next_number,
            recipe=self.asked.digest,
            parent=parent.number,
            baseline=live.number if live else None,
            reference=reference.number if reference else None,
            window=window,
            historical=self.known.historical(),
            quarantined=list(self.request.quarantined),
        )

    def _probe_output(self) -> ProbeOutput:
        """Probe up to the bound of this run."""
        now = datetime.now(UTC)
        strategy = self.asked.recipe.data.holdout.strategy
        latest = strategy.latest_partitions
        asked = ProbeInput(
            now=now,
            cursor=self.known.cursor(self.asked.recipe),
            quarantined=list(self.request.quarantined),
            excluded_generations=list(self.request.excluded),
            through=self.request.through,
            held_back=0 if self.request.through else (latest.partitions if latest else 1),
        )
        run = self.stages.run_file("probe", None).model_copy(update={"probe": asked})
        # A probe is repeated: its result must not be found again.
        self.home.result(run.job).unlink(missing_ok=True)
        result = self.stages.run(run)
        assert result.probe is not None
        return result.probe

    def _train(self, generation: LocalGeneration) -> None:
        """Train the candidate, with smaller passes where memory runs out."""
        if generation.artifact is not None:
            return None
        run = self.training(generation)
        try:
            result = self.stages.run(run)
        except StageFailed as failed:
            smaller = self._after_failure(generation, failed)
            self.display.line(f"out of memory; {smaller.name} continues with half the rows a pass")
            return self._train(smaller)
        made = result.train
        assert made is not None
        rate = f", {made.rows / made.seconds:,.0f} rows a second" if made.seconds > 0 else ""
        recipe = run.recipe
        continuing = self.known.continuation(self.asked.recipe, generation.parent)
        again = f", {made.replay.rows:,} rows replayed" if made.replay else ""
        if labelled := made.pseudo_labels:
            again += f", {labelled.used:,} of {labelled.offered:,} rows without a label labelled"
        self.display.done(
            "train",
            f"{generation.name}, {made.steps:,} steps on {made.rows:,} rows{again}{rate}"
            + "".join(
                f", {name} {value:.4g}" for name, value in made.metrics.items() if name in SHOWN
            )
            + (f"; it {continuing.message}" if continuing else "")
            + (f"; {kept}" if (kept := kept_start(recipe, made.metrics)) else ""),
        )
        self._warn(made.warnings)
        self._keep(self.known.trained(generation, made, self.asked.recipe))
        return None

    def _warn(self, warnings: Sequence[str]) -> None:
        for each in warnings:
            self.display.line(f"warning: {each}")

    def training(self, generation: LocalGeneration) -> RunFile:
        """Return the run file of the training of a candidate."""
        window, parent = generation.window, self._artifact(generation.parent)
        assert window is not None
        assert parent is not None
        continuing = self.known.continuation(self.asked.recipe, generation.parent)
        asked = TrainInput(
            parent=parent,
            data=ArtifactRef(uri=self.stages.rows(window.manifest), digest=window.digest),
            checkpoints=str(self.home.checkpoints(generation.number)),
            batch_divisor=generation.batch_divisor,
            buffer=self.stages.buffer(self.known.number(generation.parent)),
            quarantined=generation.quarantined,
            adapter=self.stages.adapter(continuing),
            fisher=self.stages.fisher(self.known.number(generation.parent)),
            seeded_head=self.known.seeded(generation.parent),
        )
        recipe = self.known.recipe(self.asked.recipe, generation.parent)
        run = self.stages.run_file("train", generation.number)
        return run.model_copy(update={"train": asked, "recipe": recipe})

    def _after_failure(self, generation: LocalGeneration, failed: StageFailed) -> LocalGeneration:
        """Return the generation with smaller passes, if memory ran out.

        Raises:
            StageFailed: something else happened, or the passes cannot be smaller.
        """
        training, divisor = self.asked.recipe.training, 2 * generation.batch_divisor
        if (
            failed.code == ExitCode.OUT_OF_MEMORY
            and training.limits.on_out_of_memory == "HalveBatch"
            and divisor <= rows_of_a_pass(self.asked.recipe)
        ):
            smaller = generation.model_copy(update={"batch_divisor": divisor})
            self._keep(smaller)
            return smaller
        if failed.code in {ExitCode.INVALID_INPUT, ExitCode.DIVERGED}:
            # Not interrupted: a later start would end in the same way, so nothing is resumed.
            reason, message = failed.failure.reason, failed.failure.message
            self._keep(
                generation.model_copy(
                    update={"verdict": "Failed", "reason": reason, "message": message}
                )
            )
            shutil.rmtree(self.home.checkpoints(generation.number), ignore_errors=True)
        raise failed

    def _evaluate(self) -> LocalGeneration:
        """Score the candidate, and write its verdict."""
        generation = self.known.pending(self.asked.digest)
        assert generation is not None
        assert generation.artifact is not None
        assert generation.window is not None
        recipe = self.asked.recipe
        judged = without_scores(self.known, generation, recipe)
        if judged is None:
            candidate = self._served(generation.number)
            assert candidate is not None
            continuing = self.known.continuation(recipe, generation.parent)
            asked = EvaluateInput(
                candidate=candidate,
                baseline=self._served(generation.baseline),
                reference=self._served(generation.reference),
                holdout=ArtifactRef(
                    uri=self.stages.rows(generation.window.manifest),
                    digest=generation.window.digest,
                ),
                historical=[self.stages.rows(each) for each in generation.historical],
                confidence=interim_confidence(recipe.gate, recipe.evaluation),
                parent_number=generation.parent,
                retained=generation.retained,
                continuation=continuing.message if continuing else "",
            )
            run = self.stages.run_file("evaluate", generation.number)
            used = self.known.recipe(recipe, generation.parent)
            run = run.model_copy(update={"evaluate": asked, "recipe": used})
            result = self._scored(run, generation.name)
            assert result.evaluate is not None
            beside = f" beside g{generation.baseline}" if asked.baseline else ", no baseline"
            self.display.done(
                "evaluate",
                f"{generation.name} on {generation.window.holdout_rows:,} rows of "
                f"{generation.window.holdout_entities:,} entities{beside}",
            )
            self._warn(result.evaluate.warnings)
            judged = conclude(self.known, generation, result.evaluate, recipe)
        self.known = judged
        self.known.write(self.home.path)
        made = self.known.number(generation.number)
        assert made is not None
        return made

    def _scored(self, run: RunFile, name: str) -> Result:
        """Run an evaluation, with smaller passes where memory runs out.

        Raises:
            StageFailed: something else happened, or the passes cannot be smaller.
        """
        while True:
            try:
                return self.stages.run(run)
            except StageFailed as failed:
                # Imported here, because it needs PyTorch, which the stage has imported by now.
                from springtide_trainer.evaluation.scoring import BATCH

                assert run.evaluate is not None
                divisor = 2 * run.evaluate.batch_divisor
                halves = run.recipe.training.limits.on_out_of_memory == "HalveBatch"
                if failed.code != ExitCode.OUT_OF_MEMORY or not halves:
                    raise
                if divisor > max(BATCH.values()):
                    raise
                given = run.evaluate.model_copy(update={"batch_divisor": divisor})
                run = run.model_copy(update={"evaluate": given})
            self.display.line(f"out of memory; {name} is scored with half the rows a pass")

    @property
    def stages(self) -> LocalStages:
        """The stages of this recipe."""
        return LocalStages(self.asked, self.home, self.display)

    def _artifact(self, number: int | None) -> ArtifactRef | None:
        return self.stages.artifact(self.known.number(number))

    def _served(self, number: int | None) -> ArtifactRef | None:
        return self.stages.served(self.known.number(number))

    def _keep(self, generation: LocalGeneration) -> None:
        self.known = self.known.with_(generation)
        self.known.write(self.home.path)


def rows_of_a_pass(recipe: Recipe) -> int:
    """Return the rows of a forward pass: for Ranking, whole groups of at most these rows."""
    ranking = recipe.model.ranking
    return ranking.max_group_rows if ranking else recipe.training.hyperparameters.batch_size


SHOWN = ("loss", "validation")
"""Metrics of a training that its line shows."""
