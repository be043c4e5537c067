"""Whatever happens, in any order: the invariants hold after every step of thousands of histories."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lifecycle.world import MONTHS, World, digest, start_of
from springtide_operator.lifecycle.lineage import finished, live, servable

SCORES = st.sampled_from(
    [
        (0.70, 0.60),  # a gain
        (0.55, 0.66),  # a loss
        (0.61, 0.60),  # undecided where the error is large
        (0.50, 0.50),  # shuffled labels
    ]
)
VERBS = st.sampled_from(["run", "retry", "reject", "quarantine", "unquarantine", "promote"])


class Life(RuleBasedStateMachine):
    """An update, its data, its Jobs and its Deployment, with a person and bad luck."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.tokens = 0
        self.retried = False
        self.sums = 0

    @rule(score=SCORES, error=st.sampled_from([0.002, 0.02]))
    def a_month_arrives(self, score: tuple[float, float], error: float) -> None:
        if len(self.world.months) == len(MONTHS) - 1:
            return
        month = MONTHS[len(self.world.months)]
        self.world.months.append(month)
        self.world.aucs[month] = score
        self.world.error = error

    @rule(minutes=st.integers(1, 30))
    def time_passes_and_jobs_succeed(self, minutes: int) -> None:
        self.world.now += timedelta(minutes=minutes)
        self.world.run_jobs()
        self.world.settle()

    @rule()
    def the_operator_looks_once(self) -> None:
        self.world.step()

    @rule()
    def the_world_turns(self) -> None:
        self.world.turns(3)

    @rule(ready=st.booleans())
    def pods_get_ready_or_not(self, ready: bool) -> None:
        self.world.pods_ready = ready
        self.world.roll_pods()

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), code=st.sampled_from([1, 3, 4, 5, 42, 137]), disrupted=st.booleans())
    def a_pod_fails(self, data: st.DataObject, code: int, disrupted: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.jobs)))
        if not self.world.jobs[name].succeeded:
            self.world.fail(name, code, disrupted=disrupted, reason="Error")

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data())
    def somebody_deletes_a_job(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.jobs)))
        del self.world.jobs[name]

    @rule(verb=VERBS)
    def a_person_asks(self, verb: str) -> None:
        self.tokens += 1
        self.retried = self.retried or verb == "retry"
        self.world.ask(f"{verb}@{self.tokens}")

    @rule(suspend=st.booleans())
    def the_spec_is_edited(self, suspend: bool) -> None:
        self.world.edit(suspend=suspend)

    @rule()
    def the_fields_are_wiped(self) -> None:
        self.world.target = replace(self.world.target, digest=None, number=None, uri=None)

    @rule(paused=st.booleans(), wanted=st.sampled_from([0, 1, 3]))
    def somebody_pauses_or_scales(self, paused: bool, wanted: int) -> None:
        self.world.target = replace(self.world.target, paused=paused, wanted=wanted)

    @rule()
    def somebody_sets_another_model(self) -> None:
        self.world.target = replace(self.world.target, digest=digest("theirs"))

    @rule()
    def it_is_restored_from_git(self) -> None:
        self.world.recreate()

    @invariant()
    def there_are_never_two_candidates(self) -> None:
        under_way = [g for g in self.world.generations.values() if not finished(g)]
        assert len(under_way) <= 1

    @invariant()
    def only_accepted_weights_are_ever_served(self) -> None:
        accepted = {
            g.status.artifact.served_digest
            for g in self.world.generations.values()
            if g.status.artifact
            and (servable(g) or g.status.rollout.abort_reason or g.status.rollout.promoted_at)
        }
        assert set(self.world.served) <= accepted

    @invariant()
    def a_rejected_generation_is_never_a_parent(self) -> None:
        for generation in self.world.generations.values():
            if generation.spec.parent:
                parent = self.world.generations[generation.spec.parent.name]
                assert parent.status.verdict not in {"Rejected", "Failed", "Inconclusive"}

    @invariant()
    def the_cursor_is_that_of_the_newest_promotion(self) -> None:
        current = live(self.world.seen())
        if current and current.spec.data:
            assert current.status.trained_through == current.spec.data.windows[-1].to

    @invariant()
    def training_rows_begin_at_the_cursor_and_lie_before_the_holdout(self) -> None:
        for generation in self.world.generations.values():
            data = generation.spec.data
            if data is None:
                continue
            assert not set(data.partitions) & set(data.holdout_partitions)
            assert not set(data.partitions) & set(data.holes)
            assert not set(data.holdout_partitions) & set(data.holes)
            assert start_of(max(data.partitions)) < start_of(min(data.holdout_partitions))

    @invariant()
    def at_most_three_looks_are_spent(self) -> None:
        for generation in self.world.generations.values():
            evaluation = generation.status.evaluation
            assert evaluation is None or evaluation.looks <= 3

    @invariant()
    def nothing_is_judged_twice_unless_a_person_asked(self) -> None:
        if self.retried:
            return
        keys = [
            (g.spec.data.digest, g.spec.recipe_hash, g.spec.parent.digest)
            for g in self.world.generations.values()
            if g.spec.data and g.status.reason != "Orphaned"
        ]
        assert len(keys) == len(set(keys))

    @invariant()
    def a_verdict_comes_with_its_reason(self) -> None:
        for generation in self.world.generations.values():
            if generation.status.verdict != "Pending":
                assert generation.status.reason

    @invariant()
    def every_wait_has_an_end(self) -> None:
        plan = self.world.plan
        if plan is None or plan.actions or plan.facts or plan.wake_after is not None:
            return
        waits_for_a_person = plan.status.progress.waiting_for
        assert waits_for_a_person, plan


Life.TestCase.settings = settings(
    max_examples=250,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestWhateverHappens = Life.TestCase
