"""Invariants of a run that starts: its window, its parent, and that nothing is evaluated twice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lifecycle.generation_facts import (
    NOT_EVALUATED,
    in_progress,
    live_of,
)
from lifecycle.invariants_of_people import is_only_a_parent
from lifecycle.world import start_of

from springtide_api.generation.spec import Ancestor
from springtide_operator.lifecycle.state.generations import unknown_value

if TYPE_CHECKING:
    from springtide_api.generation.spec import GenerationSpec
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.plan import CreateGeneration


class RunInvariants:
    """Checks the creation of a generation."""

    def check_run(self, seen: Observation, made: CreateGeneration) -> None:
        self.one_run_at_a_time(seen)
        self.a_window_begins_at_the_cursor(seen, made.spec)
        self.quarantined_partitions_are_never_used(seen, made.spec)
        self.rows_of_a_rolled_back_generation_are_left_out(seen, made.spec)
        self.no_undelivered_month_is_passed(made.spec)
        self.nothing_is_evaluated_twice(seen, made)
        self.no_third_run_on_rows_that_were_rejected_twice(seen, made)
        self.no_run_on_rows_that_were_rolled_back(seen, made)
        self.nothing_starts_while_it_is_frozen(seen)

    def one_run_at_a_time(self, seen: Observation) -> None:
        """A parent counts as it was observed: its rollout may begin by a mode that is not seen."""
        busy = (g for g in self.ours() if in_progress(as_observed(seen, g)))
        assert not [
            g.metadata.name
            for g in busy
            if not is_only_a_parent(seen.update, observed_one(seen, g) or g)
        ]

    def a_window_begins_at_the_cursor(self, seen: Observation, spec: GenerationSpec) -> None:
        data, current = spec.data, live_of(list(seen.generations))
        initial = seen.update.spec.model.initial.trained_through
        cursor = current.status.trained_through if current else initial
        assert data.windows[0].from_ == cursor
        assert data.windows[-1].to <= data.holdout.from_
        assert data.partitions
        assert data.holdout_partitions
        assert start_of(max(data.partitions)) < data.windows[-1].to
        assert not set(data.partitions) & set(data.holdout_partitions)
        parent = next(g for g in seen.generations if g.metadata.name == spec.parent.name)
        assert parent.metadata.name not in self.foreign
        assert parent.status.artifact.weights_digest == spec.parent.digest
        if current:
            assert parent is current
            compared = True
        else:
            assert parent.spec.origin == "Imported"
            head, started = parent.status.artifact.head, parent.status.rollout.step_started_at
            compared = head == "Trained" and not started and not parent.status.retired_reason
        served = Ancestor(name=spec.parent.name, digest=parent.status.artifact.served_digest)
        assert spec.baseline == (served if compared else None)
        self.the_reference_is_the_pinned_one_or_the_last_that_was_proven_better(seen, spec)
        self.historical_shards_are_those_of_the_ancestors(data.historical, parent)

    def historical_shards_are_those_of_the_ancestors(
        self, historical: list[str], parent: ModelGeneration
    ) -> None:
        data = parent.spec.data
        if data is None or not parent.status.rollout.promoted_at:
            assert historical == []
        else:
            own = [data.manifest] if data.reserved_rows else []
            assert historical == [*data.historical, *own]

    def quarantined_partitions_are_never_used(
        self, seen: Observation, spec: GenerationSpec
    ) -> None:
        data, quarantined = spec.data, set(seen.update.status.cursor.quarantined)
        assert set(data.quarantined) == quarantined
        assert not quarantined & {*data.partitions, *data.holdout_partitions}
        if seen.update.metadata.uid == self.update_uid and not self.world.stalled_watches:
            assert not self.released & set(data.holdout_partitions)
            before = {m for m in self.released if start_of(m) < data.holdout.from_}
            assert before & set(self.world.months) <= set(data.partitions)

    def rows_of_a_rolled_back_generation_are_left_out(
        self, seen: Observation, spec: GenerationSpec
    ) -> None:
        """Also of one that is deleted since, if a column says who served a row."""
        if spec.recipe.data.source.columns.served_generation is None:
            assert spec.data.excluded_generations == []
            return
        excluded = {*spec.data.excluded_generations}
        rollouts = {g.spec.number: g.status.rollout for g in seen.generations}
        back = {n for n, r in rollouts.items() if r.rollback_reason and not r.failure}
        assert back <= excluded
        assert excluded <= back | self.ever_rolled_back
        assert self.world.stalled_watches or self.excluded <= excluded
        assert not excluded & self.world.storage.served[spec.data.digest]
        self.excluded |= excluded

    def no_undelivered_month_is_passed(self, spec: GenerationSpec) -> None:
        data = spec.data
        begin = data.windows[0].from_ or start_of(min(data.partitions))
        for month in self.world.undelivered:
            if begin <= start_of(month) < data.holdout.to:
                assert month in data.quarantined

    def nothing_is_evaluated_twice(self, seen: Observation, made: CreateGeneration) -> None:
        if self._by_retry(made):
            return
        data = made.spec.data
        key = data.digest, made.spec.recipe_hash, made.spec.parent.digest
        for g in (as_observed(seen, each) for each in self.ours()):
            unjudged = g.status.reason in NOT_EVALUATED
            unjudged |= bool(g.status.retired_reason) and g.status.verdict == "Pending"
            # Hardware, limits and volumes are no part of the hash, and may have failed it.
            unjudged |= g.status.verdict == "Failed" and g.spec.recipe != made.spec.recipe
            if g.spec.data and not unjudged:
                assert key != (g.spec.data.digest, g.spec.recipe_hash, g.spec.parent.digest)

    def no_third_run_on_rows_that_were_rejected_twice(
        self, seen: Observation, made: CreateGeneration
    ) -> None:
        shared = self.rejected_twice(
            list(seen.generations), set(seen.update.status.cursor.quarantined)
        )
        assert not shared or self._by_retry(made)

    def nothing_starts_while_it_is_frozen(self, seen: Observation) -> None:
        assert self.world.stalled_watches or not self.freeze_counts(list(seen.generations))

    def no_run_on_rows_that_were_rolled_back(
        self, seen: Observation, made: CreateGeneration
    ) -> None:
        """Unless a user decided on them since, they are in quarantine, or metrics had no number."""
        left = {*made.spec.data.partitions} if made.spec.data else set()
        current = live_of(list(seen.generations))
        for g in seen.generations:
            rollout = g.status.rollout
            if not (rollout.promoted_at and rollout.rollback_reason and g.spec.data):
                continue
            if rollout.failure:
                continue
            if current and current.status.rollout.promoted_at > rollout.promoted_at:
                continue
            asked = self.world.asked[self.since_rollback.get(g.metadata.uid, 0) :]
            decided = {"retry", "quarantine", "release"} & {*asked}
            assert decided or not left & {*g.spec.data.partitions}

    def rejected_twice(self, generations: list[ModelGeneration], quarantined: set[str]) -> set[str]:
        """Training partitions of the last two verdicts, both rejections without a request since."""
        decided = [g for g in generations if g.status.verdict == "Accepted"]
        decided += [
            g
            for g in generations  # the weights of live say nothing about the rows
            if g.status.verdict == "Rejected" and g.status.reason != "SameWeights"
        ]
        *_, before, last = [None, None, *sorted(decided, key=lambda g: g.spec.number)]
        for g in (before, last):
            if g is None or not g.spec.data or g.status.reason == "RejectedByRequest":
                return set()
            if g.status.verdict != "Rejected":
                return set()
        answers = self.world.asked[self.since.get(last.metadata.uid, 0) :]
        if {"retry", "reject"} & set(answers):
            return set()
        return set(before.spec.data.partitions) & set(last.spec.data.partitions) - quarantined

    def _by_retry(self, made: CreateGeneration) -> bool:
        return self.world.probes[made.probe_uid].startswith("retry")


def observed_one(seen: Observation, g: ModelGeneration) -> ModelGeneration | None:
    """A generation as the operator observed it."""
    return next((each for each in seen.generations if each.metadata.uid == g.metadata.uid), None)


def as_observed(seen: Observation, g: ModelGeneration) -> ModelGeneration:
    """A generation as it is, but for words of another version: the operator may see them late."""
    return (observed_one(seen, g) if unknown_value(g) else None) or g
