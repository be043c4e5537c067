"""Rules on live traffic, bakes and canaries."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from lifecycle.choices import (
    BAKES,
    COMPARED,
    STRATEGIES,
)
from lifecycle.generation_facts import bakes, live_of
from lifecycle.history import History


class TrafficHistory(History):
    """What live traffic shows, and what happens to a canary."""

    @rule(value=st.sampled_from([0.01, 0.2, None, "refused"]), minutes=st.integers(1, 4))
    def live_traffic_changes(self, value: float | str | None, minutes: int) -> None:
        self.world.measured = {"errors": value}
        for _ in range(minutes):
            self.world.now += timedelta(minutes=1)
            self.settle()

    @precondition(lambda self: bakes(live_of(list(self.world.generations.values()))))
    @rule(how=st.sampled_from(["metric", "pods", "data"]), data=st.data())
    def the_live_generation_breaks_in_its_bake(self, how: str, data: st.DataObject) -> None:
        """Nothing that lasts holds it: the watches report, and the pods fail for long enough."""
        self.world.resume_watches()
        if how == "pods":
            name = self.a_target(data)
            if self.world.targets[name].uid:
                self.world.crash_a_pod(name)
        else:
            self.world.measured = {"errors": 0.2 if how == "metric" else None}
        for _ in range(12 if how == "pods" else 3):
            self.world.now += timedelta(minutes=1)
            self.settle()

    @rule(
        side=st.sampled_from(["canary", "live"]),
        requests=st.sampled_from([(2, 100), (45, 100), (0, 0), (7, 3), "refused", None]),
    )
    def requests_are_answered_otherwise(
        self, side: str, requests: tuple[int, int] | str | None
    ) -> None:
        """At other rates, by none, or with counters that are not there or cannot be asked for."""
        self.world.per_minute.pop(side, None)
        self.world.measured.pop("ratio", None)
        if requests == "refused":
            self.world.measured["ratio"] = requests
        elif requests is not None:
            self.world.per_minute[side] = requests
        self.settle()

    @precondition(lambda self: self.world.canaries)
    @rule(how=st.sampled_from(["requests", "metric", "data"]))
    def live_traffic_shows_that_a_canary_fails(self, how: str) -> None:
        """Or shows nothing, for long enough to decide."""
        self.world.resume_watches()
        self.world.prometheus_answers = True
        rollout = self.world.spec["rollout"]
        self.world.edit(rollout={**rollout, "analysis": COMPARED | {"onNoData": "Fail"}})
        self.settle()
        if how == "requests":
            self.world.per_minute["canary"] = (60, 100)
        else:
            self.world.measured = {"errors": 0.2 if how == "metric" else None}
        for _ in range(4):
            self.world.now += timedelta(minutes=1)
            self.world.finish_rollouts()
            self.settle()

    @rule(answers=st.booleans())
    def prometheus_answers_or_not(self, answers: bool) -> None:
        self.world.prometheus_answers = answers

    @rule()
    def the_operator_restarts(self) -> None:
        self.world.restart_operator()
        self.settle()

    @rule(bake=st.sampled_from(BAKES))
    def the_bake_is_edited(self, bake: dict[str, Any]) -> None:
        rollout = self.world.spec["rollout"]
        kept = {k: rollout[k] for k in ("targets", "deadline", "strategy") if k in rollout}
        self.world.edit(rollout={**kept, **bake})
        self.settle()

    @rule(strategy=st.sampled_from(STRATEGIES))
    def the_strategy_is_edited(self, strategy: dict[str, Any]) -> None:
        rollout = {k: v for k, v in self.world.spec["rollout"].items() if k != "strategy"}
        self.world.edit(rollout={**rollout, **strategy})
        self.settle()

    @precondition(lambda self: self.world.canaries)
    @rule(
        data=st.data(),
        kind=st.sampled_from(["crashed", "recovered", "deleted", "edited", "scaled"]),
        minutes=st.sampled_from([0, 1, 6, 11]),
    )
    def something_happens_to_a_canary(self, data: st.DataObject, kind: str, minutes: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.canaries)))
        if kind == "crashed":
            self.world.crash_canaries()
        elif kind == "recovered":
            self.world.canary_pods_ready = True
            self.world.finish_canaries()
        elif kind == "deleted":
            del self.world.canaries[name]
        elif kind == "edited":
            self.world.edit_canary(name)
        else:
            self.world.change_canary(name, desired=3)
        self.settle()
        self.world.now += timedelta(minutes=minutes)
        self.settle()

    @precondition(lambda self: self.world.canaries)
    @rule(how=st.sampled_from(["pods", "request", "pin", "deletion of another"]))
    def a_canary_is_aborted(self, how: str) -> None:
        """By its pods for long enough, by a user, by a pin, or it is created once more."""
        number = next(iter(self.world.canaries.values())).deployment.number
        if how == "pods":
            self.world.crash_canaries()
            for _ in range(12):
                self.world.now += timedelta(minutes=1)
                self.settle()
        elif how == "request":
            self.request(f"rollback.g{number}")
        elif how == "pin" and self.world.update.status.live:
            self.world.pin(self.world.update.status.live.number)
        else:
            self.world.canaries.pop("reranker-canary", None)
        self.settle()

    @precondition(lambda self: self.world.canaries)
    @rule()
    def the_records_of_all_promotions_are_deleted(self) -> None:
        for name, g in list(self.world.generations.items()):
            if g.status.rollout.promoted_at:
                self.world.delete_generation(name)
                self.checks.forget_generation(name)
        self.settle()

    @precondition(lambda self: self.world.canaries)
    @rule(minutes=st.integers(1, 12))
    def a_canary_goes_on(self, minutes: int) -> None:
        for _ in range(minutes):
            self.world.now += timedelta(minutes=1)
            self.world.finish_rollouts()
            self.settle()

    @rule(stale=st.sampled_from([0, 0, 1]))
    def a_user_ends_the_bake(self, stale: int) -> None:
        live = self.world.update.status.live
        self.request(f"promote.g{(live.number if live else 0) + stale}")
