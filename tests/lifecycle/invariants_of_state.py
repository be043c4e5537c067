"""Invariants that hold after each write, and when nothing more happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle.generation_facts import (
    accepted,
    digest_of,
    held,
    in_progress,
    last_written,
    live_of,
    most_analyses,
    through,
)

from springtide_api.generation import status_values

if TYPE_CHECKING:
    from springtide_api.generation.status import EvaluationStatus
    from springtide_api.objects import ModelGeneration


ENDS_WITHOUT_A_REQUEST = {
    *("ParentRolledBack", "WeightsRolledBack", "RejectedByApprover", "TrainOnlyMode")
}
"""Why a candidate on hold is retired although no request ended the hold."""


class StateInvariants:
    """Checks the world after each write."""

    def track_the_quarantine(self) -> None:
        world = self.world
        quarantined = set(world.update.status.cursor.quarantined)
        if world.update.metadata.uid != self.update_uid:
            self.update_uid, self.released, self.quarantined = (
                world.update.metadata.uid,
                set(),
                quarantined,
            )
            # Which holds a request ended is lost with the update.
            self.since = dict.fromkeys(self.since, len(world.asked))
        self.released = (self.released | self.quarantined) - quarantined
        self.ever_quarantined |= quarantined
        self.quarantined = quarantined

    def check_generation(self, g: ModelGeneration) -> None:
        status, evaluation, data = g.status, g.status.evaluation, g.spec.data
        if accepted(g) and status.artifact:
            self.accepted.add(status.artifact.served_digest)
        if status.verdict in status_values.VERDICTS - {"Pending"}:
            assert status.reason  # of an unknown verdict, another version writes the reason
        if (parent := g.spec.parent) and (made_from := self.world.generations.get(parent.name)):
            assert made_from.status.verdict not in {"Rejected", "Failed", "Inconclusive"}
        self.what_follows_the_lineage(g)
        if status.rollout.promoted_at and data:
            assert status.trained_through == data.windows[-1].to
        if evaluation is None:
            return
        assert evaluation.interim_analyses == sum(
            holdout.interim_analyses for holdout in evaluation.holdouts
        )
        assert evaluation.interim_analyses <= most_analyses(g)
        for holdout in evaluation.holdouts:
            assert holdout.outcome in {"Decided", "Inconclusive"} or holdout.interim_analyses == 0
            assert not data or not set(holdout.partitions) & set(data.partitions)
            assert not data or holdout.range.from_ >= data.windows[-1].to

    def check_change(self, old: ModelGeneration, new: ModelGeneration) -> None:
        uid, before, after = new.metadata.uid, old.status, new.status
        self.only_an_approval_is_added_to_a_spec(old, new)
        assert before.artifact in (None, after.artifact)
        if before.rollout.failure and before.rollout.rolled_back_at:
            asked = f"retry.g{new.spec.number}" in self.world.asked
            assert asked or after.rollout == before.rollout
        elif before.rollout.rollback_reason:
            assert after.rollout.rollback_reason
            assert after.rollout.promoted_at == before.rollout.promoted_at
        elif after.rollout.rollback_reason:
            self.a_rollback_is_decided(new)
        if before.verdict in {"Rejected", "Failed", "Accepted"}:
            assert after.verdict == before.verdict
        if held(old) and not held(new) and after.retired_reason not in ENDS_WITHOUT_A_REQUEST:
            assert self.answered(old)
        if after.verdict != before.verdict or (held(new) and not held(old)):
            self.since[uid] = len(self.world.asked)
        if after.rollout.promoted_at and not before.rollout.promoted_at and new.spec.data:
            self.released -= set(new.spec.data.partitions)
        self.check_analyses(before.evaluation, after.evaluation)
        self.an_inconclusive_analysis_ends_as_the_gate_says(old, new)
        self.check_bake(old, new)
        self.gpu_seconds_grow(old, new)

    def a_rollback_is_decided(self, g: ModelGeneration) -> None:
        """Its rows count as not trained on again; after a promotion another one is served."""
        failure = g.status.rollout.failure
        if failure:
            assert not g.status.rollout.promoted_at or failure == "NoData"
        else:
            self.rolled_back.add(digest_of(g))
            self.ever_rolled_back.add(g.spec.number)
        if not g.status.rollout.promoted_at:
            return
        if not failure:
            self.since_rollback[g.metadata.uid] = len(self.world.asked)
        assert self.world.stalled_watches or live_of(list(self.world.generations.values()))
        trained = set(g.spec.data.partitions) if g.spec.data else set()
        self.released |= trained & self.ever_quarantined - self.quarantined

    def check_analyses(self, old: EvaluationStatus | None, new: EvaluationStatus | None) -> None:
        if old is None or new is None or not old.holdouts:
            return
        assert old.interim_analyses <= new.interim_analyses <= old.interim_analyses + 1
        if new.interim_analyses > old.interim_analyses:
            assert new.holdouts[-1].outcome in {"Decided", "Inconclusive"}
        concluded = new.holdouts[-1].outcome and not old.holdouts[-1].outcome
        if concluded and new.holdouts[-1].outcome in {"Suspect", "TooFewEntities"}:
            assert new.interim_analyses == old.interim_analyses
        if new.holdouts[-1].digest != old.holdouts[-1].digest and not self.world.stalled_watches:
            assert old.holdouts[-1].outcome
            assert not self.quarantined & set(new.holdouts[-1].partitions)
            assert not self.released & set(new.holdouts[-1].partitions)

    def interim_analyses_are_shared_by_all_evaluations_of_a_holdout(self) -> None:
        spent: dict[tuple[str, ...], int] = {}
        most: dict[tuple[str, ...], int] = {}
        for g in self.ours():
            for holdout in g.status.evaluation.holdouts if g.status.evaluation else ():
                rows = tuple(holdout.partitions)
                spent[rows] = spent.get(rows, 0) + holdout.interim_analyses
                most[rows] = max(most.get(rows, 0), most_analyses(g))
        assert all(count <= most[rows] for rows, count in spent.items()), spent

    def check_at_rest(self) -> None:
        status, generations = self.world.update.status, self.ours()
        current = live_of(generations)
        assert (status.live.name if status.live else None) == (
            current.metadata.name if current else None
        )
        initial = self.world.update.spec.model.initial.trained_through
        assert status.cursor.trained_through == through(current, initial)
        quarantined = set(status.cursor.quarantined)
        open_ones = [g for g in generations if in_progress(g)]
        for g in open_ones:
            trained = set(g.spec.data.partitions) if g.spec.data else set()
            assert not trained & quarantined or g.status.rollout.step_started_at
        # One that another client created with the operator's labels is continued like its own.
        idle = not any(in_progress(g) for g in self.world.generations.values() if self.counts(g))
        if idle and (shared := self.rejected_twice(generations, quarantined)):
            assert status.cursor.proposed_for_quarantine == [max(shared)]
        self.the_quarantine_is_recorded(quarantined)
        self.outcomes_are_reported(current)
        self.what_is_pinned_is_served(generations)
        self.no_canary_is_left_at_rest(generations)
        self.no_gpu_second_is_lost()
        self.workloads_follow_the_update_at_rest()
        self.no_pod_tokenizes_without_use_at_rest()
        self.check_conditions()
        plan = self.world.plan
        if plan and not plan.requeue and plan.wake_after is None:
            assert plan.status.progress.waiting_for

    def the_quarantine_is_recorded(self, quarantined: set[str]) -> None:
        """A restore from Git would lose no quarantine, and revert no release."""
        holders = [g for g in self.world.generations.values() if g.status.quarantine_records]
        if self.records_lost or not holders:
            return
        newest = max(holders, key=last_written)
        kept = {r.partition for r in newest.status.quarantine_records if r.released_at is None}
        assert quarantined <= kept
        assert not kept & set(self.world.update.status.cursor.released)

    def outcomes_are_reported(self, current: ModelGeneration | None) -> None:
        for g in self.ours():
            rollout, said = g.status.rollout, g.status.outcome
            if rollout.rolled_back_at:
                assert said == ("RolloutFailed" if rollout.failure else "RolledBack")
            elif rollout.promoted_at and not rollout.rollback_reason:
                assert said == ("Live" if g is current else "Superseded")
            else:
                assert said not in {"Live", "Superseded", "RolledBack"}
            if g.status.conditions:
                live = [c.status for c in g.status.conditions if c.type == "Live"]
                assert live == ["True" if said == "Live" else "False"]
