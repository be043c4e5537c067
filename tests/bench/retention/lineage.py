"""Generations of an update, made by the stages of the pods in this process, with their CPU time."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.relevance import weights

from springtide_api.contract import ArtifactRef, ImportInput, RunFile, TrainInput, TrainOutput
from springtide_api.names import API_VERSION, UPDATE_KIND
from springtide_trainer.local.manifest_file import Places, read
from springtide_trainer.stages.runner import run_stage

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.contract import CommittedArtifact, Result, Stage
    from springtide_api.generation.spec import Recipe
    from springtide_trainer.storage import Home


def recipe(folder: Path, spec: dict[str, Any], data: Path) -> Recipe:
    """Return the recipe of a spec as `springtide-trainer run` reads it, with MiniLM's weights."""
    manifest = {
        "apiVersion": API_VERSION,
        "kind": UPDATE_KIND,
        "metadata": {"name": "bench", "namespace": "bench"},
        "spec": spec,
    }
    path = folder / "update.yaml"
    path.write_text(json.dumps(manifest), encoding="utf-8")
    return read(path, Places(data=data, model=weights())).recipe


@dataclass
class Lineage:
    """The storage of an update, and the CPU seconds of the last stage that ran in it."""

    home: Home
    seconds: float = 0.0
    _numbers: int = field(default=0)

    def run(self, stage: Stage, made_from: Recipe, **block: Any) -> Result:
        """Run a stage under a name of its own; end with its failure."""
        self._numbers += 1
        name = f"g{self._numbers}-{stage}"
        run = RunFile(
            stage=stage,
            namespace="bench",
            update="bench",
            number=self._numbers,
            job=f"{name}-1",
            result=name,
            home=str(self.home.path),
            recipe=made_from,
        )
        began = time.process_time()
        outcome = run_stage(run.model_copy(update=block), self.home, "bench")
        self.seconds = time.process_time() - began
        if outcome.result.failure:
            sys.exit(f"{stage}: {outcome.result.failure.message}")
        return outcome.result

    def imported(self, made_from: Recipe) -> CommittedArtifact:
        """Import the initial model; its head is that of the recipe's labels and seed."""
        given = ImportInput(uri=made_from.model.initial.uri)
        made = self.run("import", made_from, imported=given).imported
        assert made is not None
        return made

    def trained(
        self,
        made_from: Recipe,
        parent: CommittedArtifact | TrainOutput,
        rows: ArtifactRef,
    ) -> TrainOutput:
        """Train a generation from its parent: the imported model, or an earlier generation.

        That leaves its buffer and its Fisher information, as in a cluster.
        """
        before = parent if isinstance(parent, TrainOutput) else None
        weights = before.artifact if before else parent
        given = TrainInput(
            parent=reference(weights),
            data=rows,
            checkpoints=str(self.home.checkpoints(self._numbers + 1)),
            buffer=before and before.buffer,
            fisher=self._fisher(before.fisher) if before and before.fisher else None,
            seeded_head=weights.head == "Seeded",
        )
        made = self.run("train", made_from, train=given).train
        assert made is not None
        return made

    def _fisher(self, digest: str) -> ArtifactRef:
        return ArtifactRef(uri=self.home.artifact(digest).as_uri(), digest=digest)


def reference(artifact: CommittedArtifact) -> ArtifactRef:
    """Return how a stage names an artifact."""
    return ArtifactRef(uri=artifact.uri, digest=artifact.digest)
