"""Invariants of the Jobs that tokenize before a training: none runs when it is of no use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle.generation_facts import in_progress, pinned_of

from springtide_operator.lifecycle.state.generations import unknown_value

if TYPE_CHECKING:
    from lifecycle.world import World

    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.plan import StartJob


MAX_PODS = 32


class TokenizingInvariants:
    """Checks the start of these Jobs, and those that are left at rest."""

    world: World

    def rows_are_tokenized_before_a_training_alone(
        self, seen: Observation, start: StartJob
    ) -> None:
        run = start.run
        if run.stage != "tokenize":
            return
        (g,) = [each for each in seen.generations if each.spec.number == run.number]
        assert g.status.verdict == "Pending"
        assert g.status.training is None
        assert not seen.update.spec.suspend
        shard, rows = g.spec.recipe.data.window.rows_per_shard, g.spec.data.rows
        assert shard < rows
        assert run.tokenize.pods == min(-(-rows // shard), MAX_PODS)
        assert run.tokenize.parent.digest == g.spec.parent.digest
        assert run.tokenize.data.digest == g.spec.data.digest
        assert run.recipe == g.spec.recipe
        assert (start.nodes, start.gpus, start.placement) == (1, 0, None)
        self.what_a_job_reads_is_there(run)

    def no_pod_tokenizes_without_use_at_rest(self) -> None:
        """The training has not begun, and is not held; each generation has one such Job."""
        world, seen = self.world, self.world.seen()
        if world.refusals:
            return
        own = [job for job in seen.jobs if job.owner_uid == world.update.metadata.uid]
        found = [job for job in own if job.stage == "tokenize" and not job.deleting]
        assert len({job.number for job in found}) == len(found)
        held = world.update.spec.suspend or pinned_of(world.update, list(seen.generations))
        held = held and not any(map(unknown_value, seen.generations))
        for job in found:
            (g,) = [each for each in seen.generations if each.spec.number == job.number]
            assert unknown_value(g) or (g.status.training is None and in_progress(g))
            assert job.gpus == 0
            if held and not job.queue:
                assert job.suspended or job.succeeded or job.failed
