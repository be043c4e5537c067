"""Whatever happens, in any order: the laws hold after every write of many histories."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test
from lifecycle.choices import (
    BAKES,
    COMPUTES,
    CUMULATIVE,
    EVALUATIONS,
    FORMS,
    INCONCLUSIVE,
    LIMITS,
    METHODS,
    REFUSABLE,
    RETENTIONS,
    SCORES,
    STRATEGIES,
    TRAFFIC,
    TRIGGERS,
    WINDOWS,
    gate,
    training,
)
from lifecycle.declared import SPEC, TWO_TARGETS, with_columns
from lifecycle.history import OperatorHistory
from lifecycle.history_of_data import DataHistory
from lifecycle.history_of_deletions import DeletionHistory
from lifecycle.history_of_jobs import JobHistory
from lifecycle.history_of_others import OtherHistory
from lifecycle.history_of_owners import OwnerHistory
from lifecycle.history_of_people import PeopleHistory
from lifecycle.history_of_targets import TargetHistory
from lifecycle.history_of_traffic import TrafficHistory
from lifecycle.invariants import Invariants
from lifecycle.world import World, digest


class Life(
    DataHistory,
    JobHistory,
    OwnerHistory,
    TargetHistory,
    TrafficHistory,
    PeopleHistory,
    DeletionHistory,
    OtherHistory,
    OperatorHistory,
):
    """An update, its data, its Jobs and its Deployments, with users, other clients and failures."""

    watches = ("update", "generations", "jobs", "targets", "canaries")

    @initialize(
        two=st.booleans(),
        seeded=st.booleans(),
        columns=st.sampled_from([{}, {"servedGeneration": "served_by"}]),
        months=st.sampled_from([0, 1, 2, 3, 3]),
        scores=st.one_of(st.just([(0.70, 0.60)] * 3), st.lists(SCORES, min_size=3, max_size=3)),
        method=METHODS,
        retention=RETENTIONS,
        history=st.sampled_from([{}, {"generations": 2, "rejected": 1}]),
        serving=FORMS,
        bake=st.sampled_from(BAKES),
        strategy=st.sampled_from(STRATEGIES),
        compute=COMPUTES,
        limits=LIMITS,
        window=WINDOWS,
        inconclusive=INCONCLUSIVE,
        cumulative=CUMULATIVE,
        evaluation=EVALUATIONS,
    )
    def some_history(
        self,
        two: bool,
        seeded: bool,
        columns: dict[str, str],
        months: int,
        scores: list[tuple[float, float]],
        method: dict[str, Any],
        retention: dict[str, Any],
        history: dict[str, int],
        serving: dict[str, Any],
        bake: dict[str, Any],
        strategy: dict[str, Any],
        compute: dict[str, Any],
        limits: dict[str, int],
        window: dict[str, int],
        inconclusive: dict[str, Any],
        cumulative: str | None,
        evaluation: dict[str, Any],
    ) -> None:
        spec = with_columns({**SPEC, **TWO_TARGETS} if two else SPEC, **columns)
        trained = training(method, retention, compute=compute, limits=limits)
        spec |= {"training": trained, "history": history, "serving": serving}
        spec["rollout"] = {**spec["rollout"], **strategy}
        spec |= {"gate": gate(spec["gate"], inconclusive, cumulative), "evaluation": evaluation}
        spec["data"] = {**spec["data"], "window": window}
        self.world = World(spec=spec, seeded=seeded)
        self.world.training_rows_of_a_month, self.world.rows_of_a_month = 2500, 1500
        self.world.measured, self.world.per_minute = {"errors": 0.01}, dict(TRAFFIC)
        self.checks = Invariants(self.world)
        for name in self.world.targets:
            self.world.templates[name] = digest(f"the first template of {name}")
            self.world.create_target(name)
        for number, score in enumerate(scores[:months]):
            if number == months - 1:  # with a generation to return to, if there are three months
                self.world.edit(rollout={**spec["rollout"], **bake})
            self.a_month_arrives(score, 0.002)
            self.world.rounds(5)
        if not months:
            self.world.edit(rollout={**spec["rollout"], **bake})

    # Quota, admission and rights.

    @rule(
        writes=st.sets(st.sampled_from(REFUSABLE)),
        jobs=st.booleans(),
        deletions=st.booleans(),
    )
    def some_writes_are_refused(self, writes: set[str], jobs: bool, deletions: bool) -> None:
        self.world.refusing = dict.fromkeys(writes, "WriteRefused")
        self.world.refuse_jobs = lambda run: jobs
        self.world.refuse_deletions = deletions

    @rule()
    def everything_is_put_in_order(self) -> None:
        self.world.resume_watches()
        self.some_writes_are_refused(set(), False, False)
        for name, target in list(self.world.targets.items()):
            if not target.uid:
                self.world.create_target(name)
            target = replace(self.world.targets[name], paused=False, desired=2, foreign_manager="")
            if target.digest == digest("theirs"):
                target = replace(target, digest=None, number=None)
            self.world.targets[name] = target
        self.owners_put_all_in_order()
        self.world.canary_pods_ready = True
        self.world.recover_pods()
        self.world.measured, self.world.prometheus_answers = {"errors": 0.01}, True
        self.world.per_minute = dict(TRAFFIC)
        for name, job in list(self.world.jobs.items()):
            if job.suspended and not job.suspended_by_us:
                self.world.suspend_by_another(name, suspend=False)
        self.world.edit(suspend=False, trigger=TRIGGERS[0], mode="Enforce")
        self.world.pin(None)
        self.a_deletion_ends()
        self.world.rounds(6)
        self.checks.check_at_rest()
        self.checks.without_a_pin_the_targets_return_to_live()


FEW = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
Life.TestCase.settings = FEW
TestWhateverHappens = Life.TestCase


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_whatever_happens_in_thousands_of_histories() -> None:
    run_state_machine_as_test(Life, settings=settings(FEW, max_examples=3000))
