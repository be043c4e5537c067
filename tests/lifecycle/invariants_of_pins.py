"""Invariants of `spec.rollout.pin`: what is pinned is served, and nothing starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle.generation_facts import (
    digest_of,
    in_progress,
    live_of,
    of_another_version,
    pinned_of,
)

if TYPE_CHECKING:
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedTarget
    from springtide_operator.lifecycle.state.plan import Serve, WriteGeneration


class PinInvariants:
    """Checks actions while a generation is pinned, and the world at rest."""

    def no_job_starts_while_pinned(self, seen: Observation) -> None:
        assert pinned_of(seen.update, list(seen.generations)) is None

    def nothing_else_is_served_while_pinned(self, seen: Observation, serve: Serve) -> None:
        pinned = pinned_of(seen.update, list(seen.generations))
        # A deleted update only takes back what it had not finished.
        if pinned and not seen.update.metadata.deletion_timestamp:
            assert serve.serving is not None
            assert serve.serving.number == pinned.spec.number

    def nothing_rolls_out_while_pinned(self, seen: Observation, write: WriteGeneration) -> None:
        before = next((g for g in seen.generations if g.metadata.name == write.name), None)
        if before and seen.update.spec.rollout.pin:
            old, new = before.status.rollout, write.status.rollout
            assert not new.step_started_at or old.step_started_at
            pinned = pinned_of(seen.update, list(seen.generations))
            assert not pinned or not new.promoted_at or old.promoted_at

    def what_is_pinned_is_served(self, generations: list[ModelGeneration]) -> None:
        """At rest: on every target that is free for it, and reported."""
        update, pinned = self.world.update, pinned_of(self.world.update, generations)
        status, current = update.status, live_of(generations)
        if update.spec.rollout.pin is not None:
            assert (status.phase == "Pinned") == (pinned is not None) or status.phase == "Invalid"
        if pinned is None or any(map(of_another_version, generations)):
            return
        assert (status.pinned.number, status.pinned.digest) == (
            pinned.spec.number,
            digest_of(pinned),
        )
        assert status.freshness.served_data_through == pinned.status.trained_through
        assert status.live.name == current.metadata.name
        for target in filter(self.is_free, self._targets()):
            assert (target.digest, target.number) == (digest_of(pinned), pinned.spec.number)
        if not self.world.refusals:
            self.no_job_runs_while_pinned(generations)

    def no_job_runs_while_pinned(self, generations: list[ModelGeneration]) -> None:
        for g in filter(in_progress, generations):
            runs = (g.status.training, g.status.evaluation)
            jobs = [self.world.jobs.get(run.job) for run in runs if run]
            own = [job for job in jobs if job and job.owner_uid == self.world.update.metadata.uid]
            # One in a queue is suspended by Kueue, which may not act now.
            own = [job for job in own if not (job.queue and self.may_not_be_admitted(job))]
            assert all(job.suspended or job.succeeded or job.failed for job in own)

    def is_free(self, target: ObservedTarget) -> bool:
        """Whether nothing of another client, and no refusal, keeps a target from a change."""
        name, there = target.target.target_ref.name, list(self.world.generations.values())
        if f"Deployment {name}" in self.world.refusals:
            return False
        return not set(self.reasons_of_target(target, there)) - {"paused", "no pods to roll out to"}

    def without_a_pin_the_targets_return_to_live(self) -> None:
        """Called some time after everything was put in order."""
        there = list(self.world.generations.values())
        current = live_of(there)
        rolls = any(in_progress(g) and g.status.rollout.step_started_at for g in there)
        if current is None or rolls:
            return
        free = all(map(self.is_free, self._targets()))
        assert not free or self.world.update.status.pinned is None
        for target in filter(self.is_free, self._targets()):
            assert target.digest == digest_of(current)
