"""Invariants that hold before each action of the operator."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from lifecycle.generation_facts import (
    MAX_INTERIM_ANALYSES,
    NOT_EVALUATED,
    accepted,
    bakes,
    digest_of,
    in_progress,
    live_of,
    pinned_of,
)
from lifecycle.invariants_of_people import is_only_a_parent
from lifecycle.world import start_of

from springtide_api.generation.spec import Ancestor
from springtide_api.schema import duration
from springtide_operator.lifecycle.state.generations import unknown_value
from springtide_operator.lifecycle.state.plan import (
    CreateGeneration,
    DeleteGeneration,
    DeleteJob,
    Serve,
    StartJob,
    SuspendJob,
    WriteGeneration,
)

if TYPE_CHECKING:
    from datetime import datetime

    from lifecycle.world import World

    from springtide_api.contract import EvaluateOutput
    from springtide_api.generation.spec import GenerationSpec
    from springtide_api.generation.status import (
        EvaluationStatus,
        GenerationStatus,
        HoldoutStatus,
    )
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedJob


class ActionInvariants:
    """Checks actions before they are executed."""

    def check_deletion(self, seen: Observation, action: DeleteJob | DeleteGeneration) -> None:
        if isinstance(action, DeleteGeneration):
            self.a_report_is_deleted_with_its_generation(action.name)
            return
        job = self.world.jobs.get(action.name)
        if job and job.uid == action.uid and job.owner_uid == self.world.update.metadata.uid:
            self.a_job_is_deleted_after_its_result_is_in_status(seen, job)

    def only_jobs_that_the_operator_suspended_are_resumed(
        self, seen: Observation, resumes: SuspendJob
    ) -> None:
        job = seen.job(resumes.name)
        assert job is not None
        assert job.suspended_by_us

    def only_running_pods_count_as_running_time(
        self, seen: Observation, write: WriteGeneration
    ) -> None:
        """What is recorded is at most what pods ran, and it ends a run only at the deadline.

        A pod without a recorded end counts until it ended: that may be observed later.
        """
        world, g = self.world, self.world.generations.get(write.name)
        if g is None or write.name in self.foreign or not self.is_current(seen, g):
            return
        ran = {"train": 0.0, "evaluate": 0.0}
        for job, began, ended in world.ran.values():
            for stage in ran:
                of_stage = f"-{stage}-" in job or (stage == "train" and "-import-" in job)
                if of_stage and f"-g{g.spec.number}-" in job:
                    ran[stage] += ((ended or world.now) - began).total_seconds()
        for stage, run in (("train", write.status.training), ("evaluate", write.status.evaluation)):
            if run is not None:
                recorded = run.running_seconds + sum(
                    ((pod.ended_at or _end(world, pod.uid)) - pod.started_at).total_seconds()
                    for pod in run.pods
                )
                assert recorded <= ran[stage]
        if write.status.reason == "DeadlineExceeded" and g.status.reason != "DeadlineExceeded":
            limit = duration(g.spec.recipe.training.limits.active_deadline).total_seconds()
            assert "jobs" in world.stalled_watches or max(ran.values()) >= limit

    def is_current(self, seen: Observation, g: ModelGeneration) -> bool:
        """Whether its status was observed as it is; else the API server refuses the write."""
        return g.status in [known.status for known in seen.generations]

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
        if spec.reference:
            referred = next(g for g in seen.generations if g.metadata.name == spec.reference.name)
            assert referred.status.rollout.promoted_at or (not current and referred is parent)
            assert referred.status.artifact.served_digest == spec.reference.digest
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
        """Unless a user decided on them since, or they are in quarantine."""
        left = {*made.spec.data.partitions} if made.spec.data else set()
        current = live_of(list(seen.generations))
        for g in seen.generations:
            rollout = g.status.rollout
            if not (rollout.promoted_at and rollout.rollback_reason and g.spec.data):
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

    def a_job_is_recorded_before_it_is_created(self, start: StartJob) -> None:
        run = start.run
        if run.collect:
            self.nothing_referenced_is_deleted(run.number, run.collect.delete)
        if run.stage in {"probe", "collect"}:
            return
        there = self.world.generations.values()
        g = next((g for g in there if g.spec.number == run.number), None)
        if g is None:
            return
        assert g.metadata.name not in self.foreign
        assert run.recipe == g.spec.recipe
        self.what_a_job_reads_is_there(run)
        if run.train:
            self.a_training_is_given_what_its_generation_names(run, g)
        if run.stage != "evaluate":
            assert g.status.training.job == run.job
            return
        assert g.status.evaluation.job == run.job
        self.an_interim_analysis_has_its_share_of_the_error(start, g, g.status.evaluation)

    def a_report_is_deleted_with_its_generation(self, name: str) -> None:
        g = self.world.generations.get(name)
        if g is None or name in self.foreign or g.spec.origin == "Imported":
            return
        asked = [start.run for start in self.world.runs.values() if start.run.collect]
        gone = {path for run in asked if run.number == g.spec.number for path in run.collect.delete}
        if g.status.evaluation and g.status.evaluation.report:
            assert g.status.evaluation.report.removeprefix("file://") in gone

    def an_interim_analysis_has_its_share_of_the_error(
        self, start: StartJob, g: ModelGeneration, evaluation: EvaluationStatus
    ) -> None:
        asked, holdout = start.run.evaluate, evaluation.holdouts[-1]
        assert evaluation.interim_analyses < MAX_INTERIM_ANALYSES
        assert asked.confidence >= 1 - 0.05 / MAX_INTERIM_ANALYSES - 1e-9
        assert asked.holdout.digest == holdout.digest
        assert asked.candidate.digest == g.status.artifact.served_digest
        for rule in g.spec.recipe.gate.rules:
            assert holdout.entities >= rule.min_entities

    def a_job_is_deleted_after_its_result_is_in_status(
        self, seen: Observation, job: ObservedJob
    ) -> None:
        of_job = (g for g in self.ours() if g.spec.number == job.number)
        g = next((as_observed(seen, g) for g in of_job), None)
        if job.stage == "probe":
            last = seen.update.status.last_probe
            asked = self.world.runs[job.name].run.recipe
            pods = asked.training.image, asked.training.compute
            changed = False
            for now in (self.world.update.spec, seen.update.spec):  # an edit may be seen late
                known = now.model, now.data, now.storage
                changed |= (asked.model, asked.data, asked.storage) != known
                changed |= pods != (now.training.image, now.training.compute) or now.suspend
            changed |= pinned_of(seen.update, list(seen.generations)) is not None
            changed |= job.quarantined != frozenset(self.world.update.status.cursor.quarantined)
            assert changed or last.job_uid == job.uid
        elif g is None or job.stage == "collect" or not in_progress(g) or g.status.retired_reason:
            return
        elif job.stage == "evaluate":
            assert g.status.evaluation.job != job.name
        else:
            assert g.status.artifact or g.status.training.job != job.name

    def only_an_accepted_generation_is_served(self, seen: Observation, serve: Serve) -> None:
        if serve.serving is None:
            return
        number = serve.serving.number
        if serve.force_at_version:
            assert [verb for verb in self.world.asked if verb.startswith("rollback.")]
        assert serve.serving.digest not in self.rolled_back
        assert self.files_lost or serve.serving.uri in self.world.storage.folders
        same = [g for g in self.world.generations.values() if g.spec.number == number]
        if not same:
            assert serve.serving.digest in self.accepted
            return
        (g,) = (as_observed(seen, each) for each in same)
        assert g.metadata.name not in self.foreign
        if g.status.rollout.promoted_at and unknown_value(g):
            assert serve.serving.digest in self.accepted  # it stays live, whatever its words
        else:
            assert accepted(g)
        assert g.status.artifact.served_digest == serve.serving.digest
        assert not g.status.rollout.rollback_reason
        assert not g.status.retired_reason
        assert g.status.rollout.step_started_at

    def a_promotion_follows_verdict_and_available_pods(
        self, seen: Observation, write: WriteGeneration
    ) -> None:
        before = next((g for g in seen.generations if g.metadata.name == write.name), None)
        if before is None:
            return
        old, new = before.status, write.status
        if new.verdict != old.verdict and new.verdict == "Accepted":
            reason = "RulesPassed" if before.spec.baseline else "NoBaseline"
            assert new.reason == reason
            holdout = (new.evaluation or old.evaluation).holdouts[-1]
            (job,) = [job for job in seen.jobs if job.name == old.evaluation.job]
            self.results_pass_the_rules(before, holdout, job)
        if new.rollout.step_started_at and not old.rollout.step_started_at:
            self.nothing_starts_while_it_is_frozen(seen)
            assert accepted(before)
            current = live_of(list(seen.generations))
            parent = before.spec.parent
            assert not (current and parent) or current.metadata.name == parent.name
            assert parent or not current, "an import takes the place of what was proven"
            assert not bakes(current), "what is live is not proven yet"
        if new.rollout.rollback_reason and not old.rollout.rollback_reason:
            self.a_rollback_leaves_something_to_serve(seen, before)
        if new.rollout.promoted_at and not old.rollout.promoted_at:
            assert old.rollout.step_started_at
            assert not old.rollout.rollback_reason
            assert accepted(before)
            for target in seen.targets:
                assert target.digest == old.artifact.served_digest
                assert target.number == before.spec.number
                assert target.available >= 1
            self.a_bake_begins_with_the_promotion(seen, new)
            data = before.spec.data
            quarantined = {
                *(data.quarantined if data else ()),
                *seen.update.status.cursor.quarantined,
            }
            assert set(new.quarantined) == quarantined
            if data:
                assert new.trained_through == data.windows[-1].to

    def a_rollback_leaves_something_to_serve(self, seen: Observation, g: ModelGeneration) -> None:
        """After a promotion, another generation is live from then on, with other weights."""
        if g.status.rollout.promoted_at:
            others = [each for each in seen.generations if digest_of(each) != digest_of(g)]
            assert live_of(others)

    def a_bake_begins_with_the_promotion(self, seen: Observation, new: GenerationStatus) -> None:
        bake, rollout = seen.update.spec.rollout.bake, new.rollout
        expected = bake and rollout.promoted_at + duration(bake.duration)
        assert (rollout.bake_until, rollout.baked_at) == (expected, None)
        assert not (bake and rollout.analysis), "samples of the canary"

    def results_pass_the_rules(
        self, g: ModelGeneration, holdout: HoldoutStatus, job: ObservedJob
    ) -> None:
        """Nothing is accepted on missing, NaN, stale or foreign numbers."""
        result = job.result
        assert (result.job, result.stage, result.ok) == (job.name, "evaluate", True)
        assert result.number in {g.spec.number, None}
        output: EvaluateOutput = result.evaluate
        assert output.candidate_digest == g.status.artifact.served_digest
        assert output.holdout_digest == holdout.digest
        baseline = g.spec.baseline
        assert output.baseline_digest == (baseline.digest if baseline else None)
        rows = {row[0]: row for row in output.rules}
        assert len(rows) == len(output.rules)
        rules = g.spec.recipe.gate.rules
        assert set(rows) <= {rule.name for rule in rules}
        for rule in rules if baseline else [rule for rule in rules if rule.min is not None]:
            row = rows[rule.name]
            if rule.min is not None:
                assert all(map(isfinite, row[1:4]))
                assert row[2] >= float(rule.min)
            if rule.max_regression and baseline:
                assert all(map(isfinite, row[7:10]))
                assert row[8] > -float(rule.max_regression.absolute)
            if rule.max_cumulative_regression and baseline:
                assert output.reference_digest == g.spec.reference.digest
                compared = output.versus_reference[rules.index(rule)]
                assert compared[2] > -float(rule.max_cumulative_regression.absolute)


def observed_one(seen: Observation, g: ModelGeneration) -> ModelGeneration | None:
    """A generation as the operator observed it."""
    return next((each for each in seen.generations if each.metadata.uid == g.metadata.uid), None)


def as_observed(seen: Observation, g: ModelGeneration) -> ModelGeneration:
    """A generation as it is, but for words of another version: the operator may see them late."""
    return (observed_one(seen, g) if unknown_value(g) else None) or g


def _end(world: World, pod: str) -> datetime:
    """When a pod ended, or now; by its uid."""
    _, _, ended = world.ran.get(pod, ("", world.now, None))
    return ended or world.now
