"""Runs the stages of the pods in this process, on the folder of a local run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_api.contract import AdapterInput, ArtifactRef, ExitCode, RunFile
from springtide_trainer.stages.runner import run_stage
from springtide_trainer.storage import local_path, uri_of

if TYPE_CHECKING:
    from springtide_api.contract import Failure, Result, Stage
    from springtide_api.generation.continuation import Continuation
    from springtide_api.generation.spec import ReplayBuffer
    from springtide_trainer.local.display import Display
    from springtide_trainer.local.lineage import LocalGeneration
    from springtide_trainer.local.manifest_file import LocalRecipe
    from springtide_trainer.storage import Home


class StageFailed(Exception):
    """A stage ended without a result.

    Args:
        stage: The stage.
        failure: Why.
        code: Its exit code.
    """

    def __init__(self, stage: Stage, failure: Failure, code: int) -> None:
        super().__init__(failure.message)
        self.stage = stage
        self.failure = failure
        self.code = code


@dataclass(frozen=True)
class LocalStages:
    """The stages of a recipe, the folder of its generations, and where progress is shown."""

    asked: LocalRecipe
    home: Home
    display: Display

    def run(self, run: RunFile) -> Result:
        """Run a stage as its pod would.

        Raises:
            StageFailed: it ended with another code than 0.
        """
        with self.display.stage(run.stage):
            outcome = run_stage(run, self.home, "local")
        if outcome.code != ExitCode.DONE or not outcome.result.ok:
            failure = outcome.result.failure
            assert failure is not None
            raise StageFailed(run.stage, failure, outcome.code)
        return outcome.result

    def run_file(self, stage: Stage, number: int | None) -> RunFile:
        """Return the part of a run file that all stages share."""
        name = stage if number is None else f"g{number}-{stage}"
        return RunFile(
            stage=stage,
            namespace=self.asked.namespace,
            update=self.asked.name,
            number=number,
            job=f"{name}-1",
            result="" if number is None else name,
            home=str(self.home.path),
            recipe=self.asked.recipe,
            tracking=self.asked.tracking,
        )

    def artifact(self, generation: LocalGeneration | None) -> ArtifactRef | None:
        """Return the weights of a generation, in the folder of this run."""
        if generation is None or generation.artifact is None:
            return None
        return self._ref(generation.artifact.digest)

    def served(self, generation: LocalGeneration | None) -> ArtifactRef | None:
        """Return the form in which a generation is evaluated, in the folder of this run."""
        if generation is None or generation.artifact is None:
            return None
        return self._ref(generation.artifact.served_digest)

    def rows(self, manifest: str) -> str:
        """Return the URI of frozen rows in the folder of this run, which may have been moved."""
        return uri_of(self.home.path / "data" / local_path(manifest).name)

    def _ref(self, digest: str) -> ArtifactRef:
        return ArtifactRef(uri=uri_of(self.home.artifact(digest)), digest=digest)

    def buffer(self, parent: LocalGeneration | None) -> ReplayBuffer | None:
        """Return the buffer that a run with replay takes over from its parent."""
        retention = self.asked.recipe.training.retention
        if not (parent and parent.buffer and retention and retention.replay):
            return None
        place = uri_of(self.home.buffer(parent.buffer.digest))
        return parent.buffer.model_copy(update={"uri": place})

    def fisher(self, parent: LocalGeneration | None) -> ArtifactRef | None:
        """Return the Fisher information that a run with ewc takes over from its parent."""
        retention = self.asked.recipe.training.retention
        if not (parent and parent.fisher and retention and retention.ewc):
            return None
        return self._ref(parent.fisher)

    def adapter(self, decided: Continuation | None) -> AdapterInput | None:
        """Return the adapter that a run continues, and its base."""
        found = decided.adapter if decided else None
        if found is None:
            return None
        place, base = (uri_of(self.home.artifact(each)) for each in (found.digest, found.base))
        of = ArtifactRef(uri=base, digest=found.base)
        return AdapterInput(uri=place, digest=found.digest, base=of)
