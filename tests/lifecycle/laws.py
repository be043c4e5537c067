"""The invariants of the architecture and the rules on windows, cursor and looks, as assertions.

They are told of every action before it is carried out and look at the world after every write.
Nothing of `lifecycle/` decides here: what a generation may do is spelled out anew from its status.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING

from lifecycle.world import start_of

from springtide_api import words
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
    from springtide_api.generation import EvaluationStatus, GenerationSpec, HoldoutStatus
    from springtide_api.objects import ModelGeneration
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedJob
    from springtide_operator.lifecycle.state.plan import Action

MAX_INTERIM_ANALYSES = 3
WAITS_FOR_DATA = {"ExtendHoldout", "TooFewEntities"}
ENDS_A_HOLD = {"quarantine", "retry", "reject"}
NOT_JUDGED = {"Orphaned", "SpecChanged"}


def accepted(g: ModelGeneration) -> bool:
    """Whether its weights may ever be served: Accepted, or imported with a head."""
    if g.spec.origin == "Imported":
        trained = g.status.artifact and g.status.artifact.head == "Trained"
        return bool(trained) and g.status.verdict == "Imported"
    return g.status.verdict == "Accepted"


def under_way(g: ModelGeneration) -> bool:
    """Whether something may still happen to it by itself."""
    status = g.status
    if status.rollout.rollback_reason:
        return status.rollout.rolled_back_at is None
    if (
        status.rollout.promoted_at
        or status.retired_reason
        or status.verdict in {"Rejected", "Failed"}
    ):
        return False
    return not (status.artifact and status.artifact.head == "Seeded")


def of_another_version(g: ModelGeneration) -> bool:
    """Whether something may still happen to it, by an operator that knows its words."""
    return under_way(g) and not (
        g.status.verdict in words.VERDICTS
        and g.status.outcome in words.OUTCOMES
        and g.status.phase in words.GENERATION_PHASES
    )


def held(g: ModelGeneration) -> bool:
    """Whether it waits for a person."""
    evaluation, status = g.status.evaluation, g.status
    if status.verdict != "Inconclusive" or status.retired_reason or status.reason in WAITS_FOR_DATA:
        return False
    return evaluation is not None and evaluation.holdouts[-1].outcome != ""


def live_of(generations: list[ModelGeneration]) -> ModelGeneration | None:
    """The newest promotion."""
    went_live = [g for g in generations if g.status.rollout.promoted_at]
    return max(went_live, key=lambda g: (g.status.rollout.promoted_at, g.spec.number), default=None)


def last_written(g: ModelGeneration) -> tuple[datetime, int]:
    """When the record of the quarantine in a generation was written."""
    times = (each.released_at or each.quarantined_at for each in g.status.quarantine_records)
    return max(times), g.spec.number


class Laws:
    """Watches a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.known: dict[str, ModelGeneration] = {}
        """Every generation as it last was, by uid."""
        self.accepted: set[str] = set()
        """Digests that were accepted, of generations that are gone, too."""
        self.strangers: set[str] = set()
        """Names of generations that somebody else made."""
        self.since: dict[str, int] = {}
        """How much was asked when a generation was last judged or held, by uid."""
        self.update_uid = ""
        self.quarantined: set[str] = set()
        self.released: set[str] = set()
        """Partitions that were quarantined and no generation went live with since."""
        self.there: set[str] = set()
        self.forgotten = False
        """A record may be gone, or a request was replaced before it was carried out in full."""
        world.witness, world.check = self.of_action, self.of_world

    # Before an action.

    def of_action(self, seen: Observation, action: Action) -> None:
        match action:
            case CreateGeneration(name, spec) if name not in self.world.generations:
                assert self.world.late or not [g for g in self.ours() if of_another_version(g)]
                if spec.origin == "Trained":
                    self.one_run_at_a_time()
                    self.a_window_begins_at_the_cursor(seen, spec)
                    self.quarantined_partitions_are_never_used(seen, spec)
                    self.no_month_is_passed_that_was_not_delivered(spec)
                    self.nothing_is_judged_twice(action)
                    self.no_third_run_on_rows_that_were_rejected_twice(seen, action)
            case StartJob() if action.run.job not in self.world.jobs:
                self.a_job_is_recorded_before_it_is_made(action)
            case DeleteJob() | DeleteGeneration():
                self.of_deletion(seen, action)
            case Serve():
                self.only_an_accepted_generation_is_served(action)
            case WriteGeneration():
                self.a_promotion_follows_proof_and_pods(seen, action)
                self.no_time_counts_but_that_of_running_pods(action)
            case SuspendJob(suspend=False):
                self.only_what_the_operator_suspended_is_resumed(action)

    def of_deletion(self, seen: Observation, action: DeleteJob | DeleteGeneration) -> None:
        if isinstance(action, DeleteGeneration):
            self.a_report_goes_with_its_generation(action.name)
            return
        job = self.world.jobs.get(action.name)
        if job and job.uid == action.uid and job.owner_uid == self.world.update.metadata.uid:
            self.a_job_goes_after_what_it_did_is_in_status(seen, job)

    def only_what_the_operator_suspended_is_resumed(self, resumes: SuspendJob) -> None:
        job = self.world.jobs.get(resumes.name)
        assert self.world.late or not job or job.uid != resumes.uid or job.suspended_by_us

    def no_time_counts_but_that_of_running_pods(self, write: WriteGeneration) -> None:
        """What is recorded is at most what pods ran, and it ends a run only at the deadline."""
        world, g = self.world, self.world.generations.get(write.name)
        if g is None or write.name in self.strangers:
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
                    ((pod.ended_at or world.now) - pod.started_at).total_seconds()
                    for pod in run.pods
                )
                assert recorded <= ran[stage]
        if write.status.reason == "DeadlineExceeded" and g.status.reason != "DeadlineExceeded":
            limit = duration(g.spec.recipe.training.limits.active_deadline).total_seconds()
            assert max(ran.values()) >= limit

    def lost(self, name: str) -> None:
        """Somebody deleted a generation: what only its status held is forgotten with it."""
        self.strangers.discard(name)
        self.released = set()
        self.forgotten = True

    def ours(self) -> list[ModelGeneration]:
        there = self.world.generations.items()
        return [g for name, g in there if name not in self.strangers]

    def one_run_at_a_time(self) -> None:
        assert not [g.metadata.name for g in self.ours() if under_way(g)]

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
        assert parent.metadata.name not in self.strangers
        assert parent.status.artifact.weights_digest == spec.parent.digest
        if current:
            assert parent is current
            assert spec.baseline == spec.parent
        else:
            assert parent.spec.origin == "Imported"
            assert spec.baseline is None
        if spec.reference:
            referred = next(g for g in seen.generations if g.metadata.name == spec.reference.name)
            assert referred.status.rollout.promoted_at
            assert referred.status.artifact.weights_digest == spec.reference.digest
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
        if seen.update.metadata.uid == self.update_uid and not self.world.late:
            assert not self.released & set(data.holdout_partitions)
            before = {m for m in self.released if start_of(m) < data.holdout.from_}
            assert before & set(self.world.months) <= set(data.partitions)

    def no_month_is_passed_that_was_not_delivered(self, spec: GenerationSpec) -> None:
        data = spec.data
        begin = data.windows[0].from_ or start_of(min(data.partitions))
        for month in self.world.undelivered:
            if begin <= start_of(month) < data.holdout.to:
                assert month in data.quarantined

    def nothing_is_judged_twice(self, made: CreateGeneration) -> None:
        if self._by_retry(made):
            return
        data = made.spec.data
        key = data.digest, made.spec.recipe_hash, made.spec.parent.digest
        for g in self.ours():
            unjudged = g.status.reason in NOT_JUDGED
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

    def rejected_twice(self, generations: list[ModelGeneration], quarantined: set[str]) -> set[str]:
        """Training partitions of the last two verdicts, both rejections that nobody answered."""
        judged = [g for g in generations if g.status.verdict == "Accepted"]
        judged += [g for g in generations if g.status.verdict == "Rejected"]
        *_, before, last = [None, None, *sorted(judged, key=lambda g: g.spec.number)]
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

    def a_job_is_recorded_before_it_is_made(self, start: StartJob) -> None:
        run = start.run
        if run.collect:
            self.nothing_is_collected_that_is_named(run.number, run.collect.delete)
        if run.stage in {"probe", "collect"}:
            return
        there = self.world.generations.values()
        g = next((g for g in there if g.spec.number == run.number), None)
        if g is None:
            return
        assert g.metadata.name not in self.strangers
        assert run.recipe == g.spec.recipe
        if run.stage != "evaluate":
            assert g.status.training.job == run.job
            return
        assert g.status.evaluation.job == run.job
        self.an_interim_analysis_has_its_share_of_the_error(start, g, g.status.evaluation)

    def nothing_is_collected_that_is_named(self, number: int, folders: list[str]) -> None:
        named: set[str] = set()
        for g in self.world.generations.values():
            if g.spec.number != number:
                named |= {g.status.artifact.uri} if g.status.artifact else set()
                looks = g.status.evaluation.holdouts if g.status.evaluation else []
                named |= {look.manifest for look in looks}
                named |= {g.status.evaluation.report} if g.status.evaluation else set()
                named |= {g.spec.data.manifest, *g.spec.data.historical} if g.spec.data else set()
        assert not named & {f"file://{folder}" for folder in folders}

    def a_report_goes_with_its_generation(self, name: str) -> None:
        g = self.world.generations.get(name)
        if g is None or name in self.strangers or g.spec.origin == "Imported":
            return
        asked = [start.run for start in self.world.runs.values() if start.run.collect]
        gone = {path for run in asked if run.number == g.spec.number for path in run.collect.delete}
        if g.status.evaluation and g.status.evaluation.report:
            assert g.status.evaluation.report.removeprefix("file://") in gone

    def an_interim_analysis_has_its_share_of_the_error(
        self, start: StartJob, g: ModelGeneration, evaluation: EvaluationStatus
    ) -> None:
        asked, look = start.run.evaluate, evaluation.holdouts[-1]
        assert evaluation.interim_analyses < MAX_INTERIM_ANALYSES
        assert asked.confidence >= 1 - 0.05 / MAX_INTERIM_ANALYSES - 1e-9
        assert asked.holdout.digest == look.digest
        assert asked.candidate.digest == g.status.artifact.served_digest
        for rule in g.spec.recipe.gate.rules:
            assert look.entities >= rule.min_entities

    def a_job_goes_after_what_it_did_is_in_status(
        self, seen: Observation, job: ObservedJob
    ) -> None:
        g = next((g for g in self.ours() if g.spec.number == job.number), None)
        if job.stage == "probe":
            last = seen.update.status.last_probe
            asked, now = self.world.runs[job.name].run.recipe, self.world.update.spec
            pods = asked.training.image, asked.training.compute
            changed = (asked.model, asked.data, asked.storage) != (now.model, now.data, now.storage)
            changed |= pods != (now.training.image, now.training.compute) or now.suspend
            changed |= job.quarantined != frozenset(self.world.update.status.cursor.quarantined)
            assert changed or last.job_uid == job.uid
        elif g is None or job.stage == "collect" or not under_way(g) or g.status.retired_reason:
            return
        elif job.stage == "evaluate":
            assert g.status.evaluation.job != job.name
        else:
            assert g.status.artifact or g.status.training.job != job.name

    def only_an_accepted_generation_is_served(self, serve: Serve) -> None:
        if serve.serving is None:
            return
        number = serve.serving.number
        same = [g for g in self.world.generations.values() if g.spec.number == number]
        if not same:
            assert serve.serving.digest in self.accepted
            return
        (g,) = same
        assert g.metadata.name not in self.strangers
        if g.status.rollout.promoted_at and unknown_value(g):
            assert serve.serving.digest in self.accepted  # it stays live, whatever its words
        else:
            assert accepted(g)
        assert g.status.artifact.served_digest == serve.serving.digest
        assert not g.status.rollout.rollback_reason
        assert not g.status.retired_reason
        assert g.status.rollout.step_started_at

    def a_promotion_follows_proof_and_pods(self, seen: Observation, write: WriteGeneration) -> None:
        before = next((g for g in seen.generations if g.metadata.name == write.name), None)
        if before is None:
            return
        old, new = before.status, write.status
        if new.verdict != old.verdict and new.verdict == "Accepted":
            reason = "RulesPassed" if before.spec.baseline else "NoBaseline"
            assert new.reason == reason
            look = (new.evaluation or old.evaluation).holdouts[-1]
            (job,) = [job for job in seen.jobs if job.name == old.evaluation.job]
            self.numbers_prove(before, look, job)
        if new.rollout.step_started_at and not old.rollout.step_started_at:
            assert accepted(before)
            current = live_of(list(seen.generations))
            parent = before.spec.parent
            assert not (current and parent) or current.metadata.name == parent.name
            assert parent or not current, "an import takes the place of what was proven"
        if new.rollout.promoted_at and not old.rollout.promoted_at:
            assert old.rollout.step_started_at
            assert not old.rollout.rollback_reason
            assert accepted(before)
            for target in seen.targets:
                assert target.digest == old.artifact.served_digest
                assert target.number == before.spec.number
                assert target.available >= 1
            data = before.spec.data
            quarantined = {
                *(data.quarantined if data else ()),
                *seen.update.status.cursor.quarantined,
            }
            assert set(new.quarantined) == quarantined
            if data:
                assert new.trained_through == data.windows[-1].to

    def numbers_prove(self, g: ModelGeneration, look: HoldoutStatus, job: ObservedJob) -> None:
        """Nothing is accepted on missing, NaN, stale or foreign numbers."""
        result = job.result
        assert (result.job, result.stage, result.ok) == (job.name, "evaluate", True)
        assert result.number in {g.spec.number, None}
        output: EvaluateOutput = result.evaluate
        assert output.candidate_digest == g.status.artifact.served_digest
        assert output.holdout_digest == look.digest
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

    # After a write.

    def of_world(self) -> None:
        world = self.world
        self.follow_the_quarantine()
        changed = False
        for name, g in world.generations.items():
            before = self.known.get(g.metadata.uid)
            if before is g or name in self.strangers:
                continue
            self.known[g.metadata.uid] = g
            changed = True
            self.of_one(g)
            self.of_change(before or g, g)
        there = {g.metadata.uid for g in world.generations.values()}
        if changed or there != self.there:
            self.there = there
            assert sum(under_way(g) and g.spec.origin == "Trained" for g in self.ours()) <= 1
            self.looks_are_shared_by_all_that_are_judged_on_a_holdout()
        assert set(world.served) <= self.accepted

    def follow_the_quarantine(self) -> None:
        world = self.world
        quarantined = set(world.update.status.cursor.quarantined)
        if world.update.metadata.uid != self.update_uid:
            self.update_uid, self.released, self.quarantined = (
                world.update.metadata.uid,
                set(),
                quarantined,
            )
        self.released = (self.released | self.quarantined) - quarantined
        self.quarantined = quarantined

    def of_one(self, g: ModelGeneration) -> None:
        status, evaluation, data = g.status, g.status.evaluation, g.spec.data
        if accepted(g) and status.artifact:
            self.accepted.add(status.artifact.served_digest)
        if status.verdict != "Pending":
            assert status.reason
        if (parent := g.spec.parent) and (made_from := self.world.generations.get(parent.name)):
            assert made_from.status.verdict not in {"Rejected", "Failed", "Inconclusive"}
        if status.rollout.promoted_at and data:
            assert status.trained_through == data.windows[-1].to
        if evaluation is None:
            return
        assert evaluation.interim_analyses == sum(
            look.interim_analyses for look in evaluation.holdouts
        )
        assert evaluation.interim_analyses <= MAX_INTERIM_ANALYSES
        for look in evaluation.holdouts:
            assert look.outcome in {"Decided", "Inconclusive"} or look.interim_analyses == 0
            assert not data or not set(look.partitions) & set(data.partitions)
            assert not data or look.range.from_ >= data.windows[-1].to

    def of_change(self, old: ModelGeneration, new: ModelGeneration) -> None:
        uid, before, after = new.metadata.uid, old.status, new.status
        assert new.spec == old.spec
        assert before.artifact in (None, after.artifact)
        if before.rollout.rollback_reason:
            assert after.rollout.rollback_reason
            assert not after.rollout.promoted_at
        if before.verdict in {"Rejected", "Failed", "Accepted"}:
            assert after.verdict == before.verdict
        if held(old) and not held(new):
            assert ENDS_A_HOLD & set(self.world.asked[self.since.get(uid, 0) :])
        if after.verdict != before.verdict or (held(new) and not held(old)):
            self.since[uid] = len(self.world.asked)
        if after.rollout.promoted_at and not before.rollout.promoted_at and new.spec.data:
            self.released -= set(new.spec.data.partitions)
        self.of_analyses(before.evaluation, after.evaluation)

    def of_analyses(self, old: EvaluationStatus | None, new: EvaluationStatus | None) -> None:
        if old is None or new is None or not old.holdouts:
            return
        assert old.interim_analyses <= new.interim_analyses <= old.interim_analyses + 1
        if new.interim_analyses > old.interim_analyses:
            assert new.holdouts[-1].outcome in {"Decided", "Inconclusive"}
        judged = new.holdouts[-1].outcome and not old.holdouts[-1].outcome
        if judged and new.holdouts[-1].outcome in {"Suspect", "TooFewEntities"}:
            assert new.interim_analyses == old.interim_analyses
        if new.holdouts[-1].digest != old.holdouts[-1].digest and not self.world.late:
            assert old.holdouts[-1].outcome
            assert not self.quarantined & set(new.holdouts[-1].partitions)
            assert not self.released & set(new.holdouts[-1].partitions)

    def looks_are_shared_by_all_that_are_judged_on_a_holdout(self) -> None:
        spent: dict[tuple[str, ...], int] = {}
        for g in self.ours():
            for look in g.status.evaluation.holdouts if g.status.evaluation else ():
                rows = tuple(look.partitions)
                spent[rows] = spent.get(rows, 0) + look.interim_analyses
        assert max(spent.values(), default=0) <= MAX_INTERIM_ANALYSES, spent

    # Once nothing more is written, and nothing is seen late.

    def at_rest(self) -> None:
        status, generations = self.world.update.status, self.ours()
        current = live_of(generations)
        assert (status.live.name if status.live else None) == (
            current.metadata.name if current else None
        )
        initial = self.world.update.spec.model.initial.trained_through
        assert status.cursor.trained_through == _through(current, initial)
        quarantined = set(status.cursor.quarantined)
        open_ones = [g for g in generations if under_way(g)]
        for g in open_ones:
            trained = set(g.spec.data.partitions) if g.spec.data else set()
            assert not trained & quarantined or g.status.rollout.step_started_at
        if not open_ones and (shared := self.rejected_twice(generations, quarantined)):
            assert status.cursor.proposed_for_quarantine == [max(shared)]
        self.the_quarantine_is_recorded(quarantined)
        self.what_became_of_each_is_said(current)
        self.a_person_is_called_where_he_must_act(open_ones)
        plan = self.world.plan
        if plan and not plan.requeue and plan.wake_after is None:
            assert plan.status.progress.waiting_for

    def the_quarantine_is_recorded(self, quarantined: set[str]) -> None:
        """A restore from Git would lose no quarantine, and take back no release."""
        holders = [g for g in self.world.generations.values() if g.status.quarantine_records]
        if self.forgotten or not holders:
            return
        newest = max(holders, key=last_written)
        kept = {r.partition for r in newest.status.quarantine_records if r.released_at is None}
        assert quarantined <= kept
        assert not kept & set(self.world.update.status.cursor.released)

    def what_became_of_each_is_said(self, current: ModelGeneration | None) -> None:
        for g in self.ours():
            rollout, said = g.status.rollout, g.status.outcome
            if rollout.rolled_back_at:
                assert said == "RolledBack"
            elif rollout.promoted_at:
                assert said == ("Live" if g is current else "Superseded")
            else:
                assert said not in {"Live", "Superseded", "RolledBack"}
            if g.status.conditions:
                live = [c.status for c in g.status.conditions if c.type == "Live"]
                assert live == ["True" if said == "Live" else "False"]

    def a_person_is_called_where_he_must_act(self, open_ones: list[ModelGeneration]) -> None:
        conditions = {c.type: c for c in self.world.update.status.conditions}
        called = conditions["ActionRequired"].status == "True"
        stands = any(held(g) and not self.answered(g) for g in open_ones)
        if "Stalled" in conditions or self.world.refusals or stands:
            assert called
        if called and "Stalled" not in conditions:
            sync = conditions["TargetsInSync"]
            shared = self.world.update.status.cursor.proposed_for_quarantine
            waits = self.world.update.status.progress.waiting_for
            assert sync.status == "False" or open_ones or shared or waits

    def answered(self, g: ModelGeneration) -> bool:
        return bool(ENDS_A_HOLD & set(self.world.asked[self.since.get(g.metadata.uid, 0) :]))


def _through(current: ModelGeneration | None, initial: datetime | None) -> datetime | None:
    return current.status.trained_through if current else initial
