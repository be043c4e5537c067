"""Whatever happens to a canary by Gateway, in any order: its laws hold after every write."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test
from lifecycle.declared import SPEC, TWO_TARGETS
from lifecycle.generation_facts import bakes, in_progress, live_of, promotions
from lifecycle.history import OperatorHistory
from lifecycle.history_of_decisions import DecisionHistory
from lifecycle.history_of_deletions import DeletionHistory
from lifecycle.history_of_owners import OwnerHistory
from lifecycle.invariants import Invariants
from lifecycle.world import MONTHS, World, digest

STEPS = {"weight": 10, "duration": "5m"}, {"weight": 50, "duration": "10m"}
STRATEGIES: list[dict[str, Any]] = [
    *(
        {"type": "Canary", "canary": {"steps": list(steps), "traffic": {"type": traffic}}}
        for steps in (STEPS, STEPS[:1], STEPS[1:])
        for traffic in ("Gateway", "Gateway", "Replicas")
    ),
    {"type": "RollingUpdate"},
]
SELECTOR = 'requests{{generation="{{{{generation}}}}",outcome=~"{}"}}'
RATIO = {"bad": SELECTOR.format("error"), "total": SELECTOR.format(".*"), "maxRegression": "0"}
ANALYSIS: dict[str, Any] = {
    "prometheus": {"address": "http://prometheus:9090"},
    "metrics": [{"name": "errors", "ratio": RATIO}],
}
WARM: dict[str, Any] = {"bake": {"duration": "20m"}, "rollback": {"keepWarm": True}}
HELD: dict[str, Any] = {"bake": {"duration": "20m", "holdback": 10}, "analysis": ANALYSIS}
MORE: dict[str, Any] = {**HELD, "bake": {"duration": "20m", "holdback": 30}}
ASKED: dict[str, Any] = {**HELD, "rollback": {"automatic": False}}
FREEZING: dict[str, Any] = {**WARM, "rollback": {"keepWarm": True, "freezeAfter": 1}}
BAKES: list[dict[str, Any]] = [
    *(WARM, HELD, HELD | WARM | {"bake": HELD["bake"]}, MORE, ASKED),
    *(FREEZING, {"rollback": {"freezeAfter": 1}}, {}),
]
TRAFFIC = {"canary": (2, 100), "live": (18, 900), "previous": (2, 100)}
"""Bad and all requests of each side in a minute."""
REFUSABLE = [
    *("Deployment ranker", "Deployment ranker-canary", "deletion of Deployment ranker-canary"),
    *("HTTPRoute shop", "Service ranker-canary"),
]


def routed(
    rollout: dict[str, Any], strategy: dict[str, Any], bake: dict[str, Any]
) -> dict[str, Any]:
    """A rollout whose targets name Service and route exactly where its strategy needs them.

    With traffic Gateway it may bake, with pods of the previous generation that are kept warm or
    have a share of the requests.
    """
    traffic = strategy.get("canary", {}).get("traffic", {})
    targets = []
    for each in rollout["targets"]:
        kept = {key: value for key, value in each.items() if key not in {"service", "httpRoute"}}
        named = {"service": each["targetRef"]["name"], "httpRoute": "shop"}
        targets.append({**kept, **(named if traffic.get("type") == "Gateway" else {})})
    kept = {k: v for k, v in rollout.items() if k not in {"bake", "rollback", "analysis"}}
    baking = bake if traffic.get("type") == "Gateway" else {}
    return {**kept, "targets": targets, "strategy": strategy, **baking}


class RoutedLife(DecisionHistory, DeletionHistory, OwnerHistory, OperatorHistory):
    """An update with generation 1 live and generation 2 accepted, behind a route of two rules.

    In half of the histories generation 2 was promoted, too.
    """

    watches = ("targets", "canaries", "routes", "generations")

    @initialize(
        two=st.booleans(),
        strategy=st.sampled_from(STRATEGIES[:6]),
        bake=st.sampled_from(BAKES),
        in_bake=st.booleans(),
    )
    def a_generation_is_live(
        self, two: bool, strategy: dict[str, Any], bake: dict[str, Any], in_bake: bool
    ) -> None:
        spec = {**SPEC, **TWO_TARGETS} if two else dict(SPEC)
        self.world = World(spec={**spec, "rollout": routed(spec["rollout"], strategy, bake)})
        self.world.per_minute = dict(TRAFFIC)
        self.checks = Invariants(self.world)
        for name, target in self.world.targets.items():
            template = self.world.templates[name] = digest(f"the first template of {name}")
            self.world.targets[name] = replace(target, desired=9, template=template)
        self.world.create_routes()
        self.world.settle()
        self.world.months = [*MONTHS[:2]]
        self.world.rounds(8)
        self.a_month_arrives()
        self.world.rounds(3)
        for _ in range(45 if in_bake else 0):
            if len(promotions(list(self.world.generations.values()))) > 1:
                break
            self.time_passes(1)

    @precondition(lambda self: len(self.world.months) < len(MONTHS) - 1)
    @rule()
    def a_month_arrives(self) -> None:
        self.world.months.append(self.world.next_month())

    @rule(minutes=st.integers(1, 12))
    def time_passes(self, minutes: int) -> None:
        for _ in range(minutes):
            self.world.now += timedelta(minutes=1)
            self.world.complete_jobs()
            self.world.finish_rollouts()
            self.settle()

    @rule(seconds=st.sampled_from([5, 16]))
    def a_moment_passes(self, seconds: int) -> None:
        self.world.now += timedelta(seconds=seconds)
        self.settle()

    # The route, its Services and its pods.

    @rule(
        kind=st.sampled_from(["weighed", "back", "deleted", "created", "unreadable", "unready"]),
    )
    def something_happens_to_the_route(self, kind: str) -> None:
        world, there = self.world, "shop" in self.world.routes
        if kind == "weighed" and there:
            world.weigh(60, 40)
        elif kind == "back" and there:
            world.weigh(100, 0)
        elif kind == "deleted" and there:
            del world.routes["shop"]
        elif kind == "created" and not there:
            world.create_routes()
            world.routes_changed = True  # a canary in progress had other weights
        elif kind == "unreadable":
            world.route_problem = "" if world.route_problem else "the operator may not list them"
        elif kind == "unready":
            world.endpoints_follow = not world.endpoints_follow
        self.settle()

    @precondition(lambda self: self.world.canaries)
    @rule(
        data=st.data(),
        kind=st.sampled_from(["crashed", "one", "recovered", "deleted", "edited", "scaled"]),
    )
    def something_happens_to_a_canary(self, data: st.DataObject, kind: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.world.canaries)))
        if kind == "crashed":
            self.world.crash_canaries()
        elif kind == "one":
            there = self.world.canaries[name].deployment
            self.world.change_canary(name, available=max(0, there.available - 1))
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

    @rule(desired=st.sampled_from([2, 9, 27]))
    def the_target_is_scaled(self, desired: int) -> None:
        self.world.target = replace(self.world.target, desired=desired)
        self.settle()

    @rule(writes=st.sets(st.sampled_from(REFUSABLE)))
    def some_writes_are_refused(self, writes: set[str]) -> None:
        self.world.refusing = dict.fromkeys(writes, "WriteRefused")

    # Users.

    def steps(self) -> bool:
        there = self.world.generations.values()
        return any(in_progress(g) and g.status.rollout.step for g in there)

    @precondition(lambda self: self.steps())
    @rule()
    def the_records_of_all_promotions_are_deleted(self) -> None:
        for name, g in list(self.world.generations.items()):
            if g.status.rollout.promoted_at:
                self.world.delete_generation(name)
                self.checks.forget_generation(name)
        self.settle()

    @precondition(lambda self: "reranker" in self.world.targets)
    @rule()
    def a_target_is_removed_or_added_again(self) -> None:
        rollout, both = self.world.spec["rollout"], TWO_TARGETS["rollout"]["targets"]
        targets = both[:1] if len(rollout["targets"]) == 2 else both
        bake = {k: v for k, v in rollout.items() if k in {"bake", "rollback", "analysis"}}
        edited = routed({**rollout, "targets": targets}, rollout["strategy"], bake)
        self.world.edit(rollout=edited)
        self.settle()

    @rule(strategy=st.sampled_from(STRATEGIES), bake=st.sampled_from(BAKES))
    def the_strategy_is_edited(self, strategy: dict[str, Any], bake: dict[str, Any]) -> None:
        self.world.edit(rollout=routed(self.world.spec["rollout"], strategy, bake))
        self.settle()

    @precondition(lambda self: self.world.spec["rollout"].get("strategy"))
    @rule(bake=st.sampled_from(BAKES))
    def the_bake_is_edited(self, bake: dict[str, Any]) -> None:
        rollout = self.world.spec["rollout"]
        self.world.edit(rollout=routed(rollout, rollout["strategy"], bake))
        self.settle()

    @rule(kind=st.sampled_from(["good", "good", "live fails", "canary fails", "away"]))
    def live_traffic_changes(self, kind: str) -> None:
        self.world.per_minute = dict(TRAFFIC)
        self.world.prometheus_answers = kind != "away"
        if kind == "live fails":
            self.world.per_minute["live"] = (450, 900)
        elif kind == "canary fails":
            self.world.per_minute["canary"] = (50, 100)

    @precondition(lambda self: bakes(live_of(list(self.world.generations.values()))))
    @rule(how=st.sampled_from(["request", "pods", "promoted"]), ready=st.booleans())
    def the_bake_ends(self, how: str, ready: bool) -> None:
        """By a rollback whose pods may not get ready yet, or by a user."""
        world, live = self.world, live_of(list(self.world.generations.values()))
        world.pods_ready = ready
        if how == "pods":
            world.crash_a_pod()
            self.time_passes(11)
        else:
            verb = "rollback" if how == "request" else "promote"
            self.request(f"{verb}.g{live.spec.number}")
        self.settle()

    @rule(ready=st.booleans())
    def pods_of_the_targets_get_ready_or_not(self, ready: bool) -> None:
        self.world.pods_ready = ready
        self.world.finish_rollouts()
        self.settle()

    @rule()
    def a_user_deletes_the_previous_generation(self) -> None:
        there = promotions(list(self.world.generations.values()))
        live = live_of(there)
        for g in [g for g in there if g is not live][-1:]:
            self.checks.forget_generation(g.metadata.name)
            self.world.delete_generation(g.metadata.name)
        self.settle()

    @rule(verb=st.sampled_from(["rollback", "retry", "quarantine", "unfreeze"]))
    def a_user_requests(self, verb: str) -> None:
        newest = max(g.spec.number for g in self.world.generations.values())
        self.request(verb if verb in {"quarantine", "unfreeze"} else f"{verb}.g{newest}")
        self.settle()

    @rule(minutes=st.integers(1, 20))
    def a_rollback_freezes_the_update(self, minutes: int) -> None:
        rollout = self.world.spec["rollout"]
        kept = rollout.get("rollback", {}).get("keepWarm", False)
        after = {"freezeAfter": 1} | ({"keepWarm": True} if kept else {})
        self.world.edit(rollout={**rollout, "rollback": after})
        newest = max(g.spec.number for g in self.world.generations.values())
        self.request(f"rollback.g{newest}")
        self.time_passes(minutes)

    @rule(number=st.sampled_from([None, None, 1, 2]))
    def a_user_pins(self, number: int | None) -> None:
        self.world.pin(number)
        self.settle()

    @rule(suspend=st.booleans())
    def a_user_suspends(self, suspend: bool) -> None:
        self.world.edit(suspend=suspend)
        self.settle()

    # The operator.

    @rule()
    def the_operator_reconciles_once(self) -> None:
        self.world.step()

    @rule()
    def all_is_well_again(self) -> None:
        """Whatever held it, the rollout ends, and no request is left to a canary."""
        world = self.world
        world.resume_watches()
        world.per_minute, world.prometheus_answers = dict(TRAFFIC), True
        world.refusing, world.route_problem, world.endpoints_follow = {}, "", True
        world.canary_pods_ready = world.pods_ready = True
        world.pin(None)
        self.owners_put_all_in_order()
        world.edit(suspend=False, mode="Enforce", gate=world.spec["gate"] | {"approval": "Auto"})
        self.a_deletion_ends()
        stepping = any(
            g.status.rollout.step and not g.status.rollout.promoted_at
            for g in world.generations.values()
            if not g.status.rollout.rolled_back_at
        )
        if "shop" not in world.routes or (world.routes_changed and not stepping):
            world.create_routes()
            world.routes_changed = stepping
            self.the_share_of_a_bake_is_given_again()
        self.time_passes(40)
        if not self.world.routes_changed:
            self.checks.without_a_pin_the_targets_return_to_live()

    def the_share_of_a_bake_is_given_again(self) -> None:
        """A route that its owner made again gives previous what the operator asks for."""
        live = live_of(list(self.world.generations.values()))
        targets = live.status.rollout.targets if live and bakes(live) else []
        shares = [each.route.weight for each in targets if each.route]
        if any(shares):
            self.world.weigh(100 - shares[0], shares[0])
            self.world.routes_changed = len(shares) > 1


FEW = settings(
    max_examples=20,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
RoutedLife.TestCase.settings = FEW
TestWhateverHappensToARoute = RoutedLife.TestCase


@pytest.mark.faults
@pytest.mark.timeout(7200)
def test_whatever_happens_to_a_route_in_thousands_of_histories() -> None:
    run_state_machine_as_test(RoutedLife, settings=settings(FEW, max_examples=2000))
