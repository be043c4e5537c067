"""Invariants that hold before each action of the operator."""

from __future__ import annotations

from math import isclose, isfinite
from typing import TYPE_CHECKING

from lifecycle.generation_facts import (
    accepted,
    bakes,
    digest_of,
    in_progress,
    live_of,
    most_analyses,
    pinned_of,
)
from lifecycle.invariants_of_owners import all_available
from lifecycle.invariants_of_runs import as_observed

from springtide_api.schema import duration
from springtide_operator.lifecycle.state.generations import unknown_value
from springtide_operator.lifecycle.state.plan import (
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

    from springtide_api.contract import EvaluateOutput, RunFile
    from springtide_api.generation.spec import Recipe
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

        A pod without a recorded end counts until it ended: that may be observed later, and where
        its Job was deleted meanwhile, it counts until then.
        """
        world, g = self.world, self.world.generations.get(write.name)
        if g is None or write.name in self.foreign or not self.is_current(seen, g):
            return
        ran = {"train": 0.0, "evaluate": 0.0}
        for job, began, ended in world.ran.values():
            for stage in ran:
                of_stage = f"-{stage}-" in job or (stage == "train" and "-import-" in job)
                if of_stage and f"-g{g.spec.number}-" in job:
                    late = ended is None or write.name in self.unseen
                    ran[stage] += ((world.now if late else ended) - began).total_seconds()
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

    def a_job_is_recorded_before_it_is_created(self, start: StartJob) -> None:
        run = start.run
        if run.collect:
            self.nothing_referenced_is_deleted(run.number, run.collect.delete)
        if run.stage in {"probe", "tokenize", "collect"}:
            return
        there = self.world.generations.values()
        g = next((g for g in there if g.spec.number == run.number), None)
        if g is None:
            return
        assert g.metadata.name not in self.foreign
        assert _evidence_of(run, g) == g.spec.recipe
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
        assert evaluation.interim_analyses < most_analyses(g)
        assert isclose(asked.confidence, 1 - 0.05 / most_analyses(g))
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
            changed |= job.excluded != frozenset(seen.lineage.excluded)
            assert changed or last.job_uid == job.uid
        elif g is None or job.stage == "collect" or not in_progress(g) or g.status.retired_reason:
            return
        elif job.stage == "tokenize":
            assert g.status.training or g.status.artifact
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
            self.superiority_is_what_was_measured(job.result.evaluate, new.evaluation)
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
                assert all_available(target)
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
                assert g.spec.reference, "nothing to compare with"
                assert output.reference_digest == g.spec.reference.digest
                compared = output.versus_reference[rules.index(rule)]
                assert compared[2] > -float(rule.max_cumulative_regression.absolute)


def _end(world: World, pod: str) -> datetime:
    """When a pod ended, or now; by its uid."""
    _, _, ended = world.ran.get(pod, ("", world.now, None))
    return ended or world.now


def _evidence_of(run: RunFile, g: ModelGeneration) -> Recipe:
    """The recipe of a Job without how its pods reach their files: as the spec says now.

    A repeated evaluation may have the pods that the spec requires now.
    """
    made = g.spec.recipe
    reached = ("secret_name", "service_account_name", "volume")
    data = run.recipe.data.model_copy(update={name: getattr(made.data, name) for name in reached})
    storage = run.recipe.storage.model_copy(update={"volume": made.storage.volume})
    asked = run.recipe.model_copy(update={"data": data, "storage": storage})
    if run.stage != "evaluate" or run.attempt == 1:
        return asked
    pods = {"compute": made.training.compute, "image": made.training.image}
    return asked.model_copy(update={"training": asked.training.model_copy(update=pods)})
