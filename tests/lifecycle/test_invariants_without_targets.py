"""Whatever happens to an update without targets, in any order: the laws hold after every write."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test
from lifecycle.choices import (
    CUMULATIVE,
    EVALUATIONS,
    INCONCLUSIVE,
    METHODS,
    RETENTIONS,
    SCORES,
    TRIGGERS,
    gate,
    training,
)
from lifecycle.declared import WITHOUT_TARGETS
from lifecycle.history import OperatorHistory
from lifecycle.history_of_data import DataHistory
from lifecycle.history_of_jobs import JobHistory
from lifecycle.history_of_others import OtherHistory
from lifecycle.history_of_people import PeopleHistory
from lifecycle.invariants import Invariants
from lifecycle.world import World


class LifeWithoutTargets(DataHistory, JobHistory, PeopleHistory, OtherHistory, OperatorHistory):
    """An update that serves nothing, its data and its Jobs, with users and failures."""

    watches = ("update", "generations", "jobs")
    a_generation_is_pinned_or_none = None  # type: ignore[assignment]  # refused by the API server
    the_trained_tower_is_switched = None  # type: ignore[assignment]

    @initialize(
        seeded=st.booleans(),
        months=st.sampled_from([0, 1, 2, 3, 3]),
        scores=st.one_of(st.just([(0.70, 0.60)] * 3), st.lists(SCORES, min_size=3, max_size=3)),
        method=METHODS,
        retention=RETENTIONS,
        history=st.sampled_from([{}, {"generations": 2, "rejected": 1}]),
        rollback=st.sampled_from([{}, {"quarantineWindow": True}, {"freezeAfter": 1}]),
        inconclusive=INCONCLUSIVE,
        cumulative=CUMULATIVE,
        evaluation=EVALUATIONS,
    )
    def some_history(
        self,
        seeded: bool,
        months: int,
        scores: list[tuple[float, float]],
        method: dict[str, Any],
        retention: dict[str, Any],
        history: dict[str, int],
        rollback: dict[str, Any],
        inconclusive: dict[str, Any],
        cumulative: str | None,
        evaluation: dict[str, Any],
    ) -> None:
        spec = {**WITHOUT_TARGETS, "training": training(method, retention), "history": history}
        spec["rollout"] = {"targets": [], "rollback": rollback}
        spec |= {"gate": gate(spec["gate"], inconclusive, cumulative), "evaluation": evaluation}
        self.world = World(spec=spec, seeded=seeded)
        self.checks = Invariants(self.world)
        for score in scores[:months]:
            self.a_month_arrives(score, 0.002)
            self.world.rounds(5)

    @rule(jobs=st.booleans(), deletions=st.booleans())
    def some_writes_are_refused(self, jobs: bool, deletions: bool) -> None:
        self.world.refuse_jobs = lambda run: jobs
        self.world.refuse_deletions = deletions

    @rule()
    def everything_is_put_in_order(self) -> None:
        self.world.resume_watches()
        self.some_writes_are_refused(jobs=False, deletions=False)
        for name, job in list(self.world.jobs.items()):
            if job.suspended and not job.suspended_by_us:
                self.world.suspend_by_another(name, suspend=False)
        self.world.edit(suspend=False, trigger=TRIGGERS[0], mode="Enforce")
        self.world.rounds(6)
        self.checks.check_at_rest()


FEW = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
LifeWithoutTargets.TestCase.settings = FEW
TestWhateverHappensWithoutTargets = LifeWithoutTargets.TestCase


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_whatever_happens_without_targets_in_thousands_of_histories() -> None:
    run_state_machine_as_test(LifeWithoutTargets, settings=settings(FEW, max_examples=2000))
