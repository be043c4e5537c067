"""Invariants of what follows the lineage: buffers, adapters, Fisher information, their folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle.generation_facts import in_progress
from lifecycle.world_storage import read_by

if TYPE_CHECKING:
    from springtide_api.contract import RunFile
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation


class LineageInvariants:
    """Checks what a run takes over from its parent, and that it is kept as long as needed."""

    def what_follows_the_lineage(self, g: ModelGeneration) -> None:
        """Called with each new state of a generation."""
        parent = g.spec.parent and self.world.generations.get(g.spec.parent.name)
        if parent:
            self.the_buffer_is_that_of_the_parent(g, parent)
            self.the_adapter_is_that_of_the_parent(g, parent)
            self.the_fisher_information_is_that_of_the_parent(g, parent)
        self.what_is_left_is_of_the_lineage_alone(g)

    def the_buffer_is_that_of_the_parent(self, g: ModelGeneration, parent: ModelGeneration) -> None:
        retention = g.spec.recipe.training.retention
        left = parent.status.artifact and parent.status.artifact.buffer
        assert g.spec.data.buffer == (left if retention and retention.replay else None)

    def the_fisher_information_is_that_of_the_parent(
        self, g: ModelGeneration, parent: ModelGeneration
    ) -> None:
        retention = g.spec.recipe.training.retention
        left = parent.status.artifact and parent.status.artifact.fisher
        assert g.spec.data.fisher == (left if retention and retention.ewc else None)

    def what_is_left_is_of_the_lineage_alone(self, g: ModelGeneration) -> None:
        """Nothing of a rejected or rolled back generation, and nothing quarantined."""
        artifact, data = g.status.artifact, g.spec.data
        if artifact is None:
            return
        before = self.lineages.get(g.spec.parent.digest, frozenset()) if g.spec.parent else ()
        lineage = frozenset(before).union(data.partitions if data else ())
        self.lineages[artifact.weights_digest] = lineage
        if artifact.buffer:
            assert g.spec.recipe.training.retention.replay
            held = self.world.storage.partitions[artifact.buffer.digest]
            assert held <= lineage
            assert not held & {*data.quarantined}
        if artifact.fisher:
            assert g.spec.recipe.training.retention.ewc
            assert self.world.storage.partitions[artifact.fisher] <= lineage

    def the_adapter_is_that_of_the_parent(
        self, g: ModelGeneration, parent: ModelGeneration
    ) -> None:
        """Continued from the parent alone; a new one belongs to the parent's weights."""
        before = parent.status.artifact and parent.status.artifact.adapter
        taken = g.spec.continuation and g.spec.continuation.adapter
        left = g.status.artifact and g.status.artifact.adapter
        method = g.spec.recipe.training.method
        assert taken in (None, before)
        assert not (taken or left) or method.lora.continuation == "Continue"
        if taken:
            was = parent.spec.recipe.training.method.lora
            assert (was.rank, was.alpha) == (method.lora.rank, method.lora.alpha)
            assert taken.generations < (method.lora.rebase_every or taken.generations + 1)
        if left:
            expected = (taken.base, taken.generations + 1) if taken else (g.spec.parent.digest, 1)
            assert (left.base, left.generations) == expected

    def a_training_is_given_what_its_generation_names(
        self, run: RunFile, g: ModelGeneration
    ) -> None:
        asked, data = run.train, g.spec.data
        continued = g.spec.continuation and g.spec.continuation.adapter
        assert (asked.adapter and asked.adapter.digest) == (continued and continued.digest)
        assert (asked.adapter and asked.adapter.base.digest) == (continued and continued.base)
        assert asked.buffer == data.buffer
        assert (asked.fisher and asked.fisher.digest) == data.fisher
        assert asked.quarantined == data.quarantined
        held = asked.buffer and self.world.storage.partitions[asked.buffer.digest]
        quarantined = {*self.world.update.status.cursor.quarantined}
        assert not {*(held or ())} - {*asked.quarantined} & quarantined

    def what_a_job_reads_is_there(self, run: RunFile) -> None:
        """Unless a user deleted a generation while files were being deleted."""
        assert self.files_lost or read_by(run) <= self.world.storage.folders

    def nothing_referenced_is_deleted(self, number: int | None, folders: list[str]) -> None:
        """What generations name, and what their training reads before they name it."""
        named: set[str] = set()
        for g in self.world.generations.values():
            if g.spec.number != number:
                named |= _named_by(g)
        assert self.files_lost or not named & {f"file://{folder}" for folder in folders}

    def what_pods_may_use_is_named_by_probes(self, seen: Observation, run: RunFile) -> None:
        """Of all others a probe deletes checkpoints, reports, results and scratch folders."""
        names = {_in_results(g): g for g in seen.generations}
        if run.probe:
            assert {*run.probe.generations} == names.keys()
            assert {*run.probe.unfinished} >= {name for name, g in names.items() if in_progress(g)}
        else:
            (name,) = (name for name, g in names.items() if g.spec.number == run.number)
            assert run.result.startswith(f"{name}-")


def _in_results(g: ModelGeneration) -> str:
    return f"g{g.spec.number}-{g.metadata.uid[:8]}"


def _named_by(g: ModelGeneration) -> set[str]:
    artifact, evaluation, data = g.status.artifact, g.status.evaluation, g.spec.data
    place = "file:///models/search/shop/artifacts/"
    weights = artifact and place + artifact.weights_digest.replace(":", "-")
    named = {artifact.uri, weights} if artifact else set()
    taken = g.spec.continuation and in_progress(g) and g.spec.continuation.adapter
    for adapter in filter(None, (artifact and artifact.adapter, taken)):
        named |= {adapter.uri, place + adapter.base.replace(":", "-")}
    known = [artifact and artifact.fisher, data and in_progress(g) and data.fisher]
    named |= {place + each.replace(":", "-") for each in known if each}
    given = data and in_progress(g) and data.buffer
    named |= {buffer.uri for buffer in (artifact and artifact.buffer, given) if buffer}
    if evaluation:
        named |= {holdout.manifest for holdout in evaluation.holdouts} | {evaluation.report}
    return named | ({data.manifest, *data.historical} if data else set())
