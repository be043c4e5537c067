"""Invariants of canaries: what they run, when a step may start, and that none is left."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from lifecycle.generation_facts import (
    accepted,
    digest_of,
    in_progress,
    live_of,
    of_another_version,
    pinned_of,
)
from lifecycle.invariants_of_warm_pods import kept_warm

from springtide_api.schema import duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedCanary
    from springtide_operator.lifecycle.state.plan import ApplyCanary, Serve, WriteGeneration


class CanaryInvariants:
    """Checks the writes of canaries, and the canaries that are there."""

    def a_canary_runs_the_candidate_in_its_steps_alone(
        self, seen: Observation, action: ApplyCanary
    ) -> None:
        number = action.serving.number
        (g,) = [g for g in seen.generations if g.spec.number == number]
        if g.status.rollout.promoted_at:
            self.warm_pods_run_previous_during_the_bake(seen, action)
            return
        rollout, current = g.status.rollout, live_of(list(seen.generations))
        assert accepted(g)
        assert action.serving.digest == digest_of(g)
        assert action.serving.digest not in self.rolled_back
        assert rollout.step
        assert (rollout.steps_ended_at, rollout.promoted_at) == (None, None)
        assert not rollout.rollback_reason
        assert current
        assert current is not g
        assert pinned_of(seen.update, list(seen.generations)) is None
        if action.selector:
            self.pods_are_the_share_of_the_available_ones(seen, action, rollout)
            return
        share = 100 * action.replicas / (action.replicas + self._pods(seen, action))
        others = (
            100 * each / (each + self._pods(seen, action))
            for each in (action.replicas - 1, action.replicas + 1)
            if each
        )
        assert all(abs(share - rollout.weight) <= abs(each - rollout.weight) for each in others)

    def _pods(self, seen: Observation, action: ApplyCanary) -> int:
        (target,) = [t for t in seen.targets if t.target == action.target]
        assert target.desired
        return target.desired

    def targets_serve_live_during_the_steps(self, seen: Observation, serve: Serve) -> None:
        current = live_of(list(seen.generations))
        for g in seen.generations:
            rollout = g.status.rollout
            stepping = rollout.step and not rollout.steps_ended_at and in_progress(g)
            if stepping and serve.serving and not seen.update.metadata.deletion_timestamp:
                pinned = pinned_of(seen.update, list(seen.generations))
                expected = pinned or current
                assert serve.serving.number != g.spec.number
                assert expected is None or serve.serving.number == expected.spec.number

    def steps_follow_each_other(self, seen: Observation, write: WriteGeneration) -> None:
        before = next((g for g in seen.generations if g.metadata.name == write.name), None)
        if before is None:
            return
        old, new = before.status.rollout, write.status.rollout
        if new.step_started_at is None or old.step_started_at is None:
            return
        assert (new.step is None) == (old.step is None)
        if new.step is None or new.rollback_reason:
            return
        assert new.step in (old.step, old.step + 1)
        if new.step > old.step:
            self._a_step_took_its_time(seen, before)
        if new.weight_seen_at and not old.weight_seen_at:
            assert all(self._available(c) for c in self._canaries_of(seen, before))
            assert len(self._canaries_of(seen, before)) == len(seen.targets)

    def _a_step_took_its_time(self, seen: Observation, g: ModelGeneration) -> None:
        rollout, canary = g.status.rollout, seen.update.spec.rollout.strategy.canary
        assert rollout.weight_seen_at
        step = canary.steps[rollout.step - 1]
        assert self.world.now - rollout.weight_seen_at >= duration(step.duration)
        assert rollout.unavailable_since is None
        assert not seen.update.spec.suspend
        assert all(map(self._available, self._canaries_of(seen, g)))

    def _available(self, canary: ObservedCanary) -> bool:
        pods = canary.deployment
        return pods.available >= pods.desired > 0 and pods.updated >= pods.desired

    def _canaries_of(self, seen: Observation, g: ModelGeneration) -> list[ObservedCanary]:
        """Without those of targets that were removed, which are drained."""
        names = {t.target.target_ref.name for t in seen.targets}
        there = (c for c in seen.canaries if c.ours and c.of in names)
        return [c for c in there if c.deployment.number == g.spec.number]

    def no_canary_outlives_its_rollout(self, seen: Observation, write: WriteGeneration) -> None:
        """Weight 0 before a promotion, and before a rollback is complete."""
        before = next((g for g in seen.generations if g.metadata.name == write.name), None)
        if before is None or seen.update.metadata.deletion_timestamp:
            return
        old, new = before.status.rollout, write.status.rollout
        promoted = new.promoted_at and not old.promoted_at
        if promoted or (new.rolled_back_at and not old.rolled_back_at):
            assert not [c for c in seen.canaries if c.ours]

    def check_canaries(self) -> None:
        """After each write: of one generation alone, which was accepted."""
        running = [c.deployment for c in self.world.canaries.values() if c.ours]
        assert len({each.number for each in running}) <= 1
        assert {each.digest for each in running} <= self.accepted

    def no_canary_is_left_at_rest(self, generations: list[ModelGeneration]) -> None:
        if self.world.refusals or self.world.update.metadata.deletion_timestamp:
            return
        stepping = [g for g in generations if in_progress(g) and g.status.rollout.step]
        if self.a_bake_drains(generations):
            return
        self.warm_pods_are_there_at_rest(generations)
        wanted = stepping or kept_warm(self.world.update, generations)
        if not wanted and not self.world.route_problem:  # it may lead to them
            assert not [c for c in self.world.canaries.values() if c.ours]
        self.no_route_leads_to_a_canary_at_rest(bool(stepping))
        self.no_requests_go_to_a_canary_without_pods()

    def a_weight_may_not_be_possible(self) -> bool:
        """Whether whole pods do not express a weight: a user must act once a candidate waits."""
        canary = self.world.update.spec.rollout.strategy.canary
        rollouts = [g.status.rollout for g in self.world.generations.values() if in_progress(g)]
        by_replicas = any(r.step and not any(t.route for t in r.targets) for r in rollouts)
        if canary is None or not (by_replicas or canary.traffic.type == "Replicas"):
            return False
        pods = {target.desired for target in self._targets() if target.desired}
        shares = {each: [100 * n / (n + each) for n in range(1, 100 * each)] for each in pods}
        return any(
            min(abs(share - step.weight) for share in each) > 5
            for step in canary.steps
            for each in shares.values()
        )

    def reasons_of_canary_edits(self, there: list[ModelGeneration]) -> Iterator[str]:
        """A canary that a client edits within 30 seconds of its creation; a pin ends it."""
        if pinned_of(self.world.update, there):
            return
        stepping = [
            g
            for g in there
            if in_progress(g)
            and g.status.rollout.step
            and not (g.status.rollout.steps_ended_at or g.status.rollout.rollback_reason)
            and not of_another_version(g)
        ]
        for canary in self.world.canaries.values():
            young = canary.created and self.world.now - canary.created < timedelta(seconds=30)
            if stepping and canary.edited_by and young:
                yield "a canary that is edited at once"
