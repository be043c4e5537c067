"""Whatever happens, in any order: the invariants hold after every step of many histories."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)
from lifecycle.world import MONTHS, World, digest, start_of

from springtide_operator.lifecycle.lineage import finished, live, servable
from springtide_operator.lifecycle.observation import TargetSeen

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
        self.accepted: set[str] = set()
        """Digests that were Blessed, Bootstrapped or imported, of generations that went, too."""

    @initialize(months=st.integers(0, 3), scores=st.lists(SCORES, min_size=3, max_size=3))
    def some_history(self, months: int, scores: list[tuple[float, float]]) -> None:
        for score in scores[:months]:
            self.a_month_arrives(score, 0.002)
            self.world.turns(5)

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

    @rule(written=st.integers(0, 3))
    def the_operator_dies_in_the_middle_of_its_writes(self, written: int) -> None:
        self.world.die(written)

    @rule(rate=st.sampled_from(["1e-5", "2e-5"]), margin=st.sampled_from(["0.01", "0.05"]))
    def the_spec_is_edited(self, rate: str, margin: str) -> None:
        floor, not_worse = self.world.spec["gate"]["rules"]
        rules = [floor, {**not_worse, "maxRegression": {"absolute": margin}}]
        training = {"hyperparameters": {"learningRate": rate}}
        self.world.edit(training=training, gate={"rules": rules})

    @rule()
    def the_deployment_is_deleted_or_made_again(self) -> None:
        world = self.world
        if world.target.uid:
            world.target = TargetSeen(target=world.target.target)
        else:
            world.bring_target()

    @precondition(lambda self: self.world.generations)
    @rule(data=st.data())
    def somebody_deletes_a_generation(self, data: st.DataObject) -> None:
        self.world.lose(data.draw(st.sampled_from(sorted(self.world.generations))))

    @rule(rounds=st.integers(1, 6))
    def the_world_turns(self, rounds: int) -> None:
        self.world.turns(rounds)

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

    @rule(kind=st.sampled_from(["suspend", "resume", "wiped", "paused", "scaled", "theirs", "git"]))
    def somebody_meddles(self, kind: str) -> None:
        world, target = self.world, self.world.target
        match kind:
            case "suspend" | "resume":
                world.edit(suspend=kind == "suspend")
            case "wiped":
                world.target = replace(target, digest=None, number=None, uri=None)
            case "paused":
                world.target = replace(target, paused=not target.paused)
            case "scaled":
                world.target = replace(target, wanted=0 if target.wanted else 2)
            case "theirs":
                world.target = replace(target, digest=digest("theirs"))
            case "git":
                world.recreate()
        world.settle()

    @rule()
    def everything_is_put_in_order(self) -> None:
        if not self.world.target.uid:
            self.world.bring_target()
        self.world.target = replace(self.world.target, paused=False, wanted=2)
        if self.world.target.digest == digest("theirs"):
            self.world.target = replace(self.world.target, digest=None, number=None)
        self.world.pods_ready = True
        if self.world.update.spec.suspend:
            self.world.edit(suspend=False)
        self.world.turns(6)

    @invariant()
    def there_are_never_two_candidates(self) -> None:
        trained = [g for g in self.world.generations.values() if g.spec.origin == "Trained"]
        assert sum(not finished(g) for g in trained) <= 1

    @invariant()
    def only_accepted_weights_are_ever_served(self) -> None:
        self.accepted |= {
            g.status.artifact.served_digest
            for g in self.world.generations.values()
            if g.status.artifact
            and (servable(g) or g.status.rollout.abort_reason or g.status.rollout.promoted_at)
        }
        assert set(self.world.served) <= self.accepted

    @invariant()
    def a_rejected_generation_is_never_a_parent(self) -> None:
        for generation in self.world.generations.values():
            named = generation.spec.parent
            if named and (parent := self.world.generations.get(named.name)):
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
            assert data.manifest not in data.historical
            parent = self.world.generations.get(generation.spec.parent.name)
            if parent and parent.status.rollout.promoted_at:
                assert data.windows[0].from_ == parent.status.trained_through

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
