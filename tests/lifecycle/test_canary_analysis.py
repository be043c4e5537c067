"""Metrics during the steps of a canary: what is asked, what aborts it, what a step waits for."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from lifecycle.canary_scenes import set_strategy, started, summary
from lifecycle.world_traffic import REFUSED

from springtide_operator.lifecycle.state.plan import Query

if TYPE_CHECKING:
    from lifecycle.world import World

STEPS = [{"weight": 10, "duration": "10m"}, {"weight": 50, "duration": "20m"}]
SELECTOR = 'requests{{namespace="{{{{namespace}}}}",generation="{{{{generation}}}}"{}}}'
RATIO = {
    "name": "errors",
    "ratio": {
        "bad": SELECTOR.format(',outcome="error"'),
        "total": SELECTOR.format(""),
        "maxRegression": "0",
    },
}
LATENCY = {
    "name": "latency",
    "value": {"query": 'p99{generation="{{generation}}",role="{{role}}"}', "max": "0.25"},
}
PROMETHEUS = {"address": "http://prometheus.monitoring:9090"}


def analysed(*metrics: dict[str, Any], steps: list[dict[str, Any]] = STEPS, **others: Any) -> World:
    """The canary of generation 2 has its first weight; nothing was asked yet."""
    world = started()
    rollout = {"bake": {"duration": "1h"}} if others.pop("bake", False) else {}
    found = {"prometheus": PROMETHEUS, "metrics": list(metrics or [RATIO]), **others}
    set_strategy(world, *steps, analysis=found, **rollout)
    world.settle()
    world.measured = {"latency": 0.1}
    world.queried.clear()
    return world


def minutes(
    world: World,
    count: int,
    *,
    canary: tuple[int, int] = (2, 100),
    live: tuple[int, int] = (18, 900),
) -> None:
    """Let time pass, with so many bad requests of so many in each minute."""
    for _ in range(count):
        world.now += timedelta(minutes=1)
        world.answer_requests("canary", *canary)
        world.answer_requests("live", *live)
        world.finish_rollouts()
        world.settle()


def rollout_of(world: World, number: int = 2):
    return world.generation(number).status.rollout


def verdicts(world: World) -> list[str]:
    return [sample.verdict for sample in rollout_of(world).analysis]


def test_each_interval_both_sides_are_asked_for_since_the_canary_has_its_weight() -> None:
    world = analysed(LATENCY, RATIO)
    minutes(world, 2)
    first, *others = [query for query in world.queried if query.startswith("sum(")]
    bad = 'requests{namespace="search",generation="2",outcome="error"}[60s]'
    counted = f"max_over_time({bad}) - min_over_time({bad})"
    assert first == f"sum({counted} unless resets({bad}) > 0 or increase({bad}))"
    sides = [re.search(r'generation="(\d)".*?\[(\d+)s\]', query).groups() for query in others]
    assert sides == [
        ("2", "60"),
        ("1", "60"),
        ("1", "60"),
        *[("2", "120")] * 2,
        *[("1", "120")] * 2,
    ]
    assert 'p99{generation="2",role="canary"}' in world.queried
    assert verdicts(world) == ["Pass"] * 4


def test_a_query_is_due_when_the_plan_says_to_decide_again() -> None:
    world = analysed(interval="90s")
    began = rollout_of(world).weight_seen_at
    while not rollout_of(world).analysis:
        world.now += world.plan.wake_after
        world.answer_requests("canary", 0, 1)
        world.answer_requests("live", 0, 1)
        world.settle()
    assert world.now == began + timedelta(seconds=90)


def test_a_good_generation_passes_its_steps_and_its_bake_asks_for_values_alone() -> None:
    world = analysed(LATENCY, RATIO, bake=True)
    minutes(world, 34)
    assert world.generation(2).status.outcome == "Live"
    kept = rollout_of(world).comparisons
    assert [(each.metric, each.watched_before.total > 0) for each in kept] == [("errors", True)]
    world.queried.clear()
    minutes(world, 3)
    assert set(world.queried) == {'p99{generation="2",role="live"}'}
    assert {sample.metric for sample in rollout_of(world).analysis} == {"latency"}
    assert rollout_of(world).comparisons == kept


@pytest.mark.survives(
    "Deployments",
    "a canary answers more of its requests with errors than the live generation",
    "it is removed within some intervals, with the requests of both and the e-value as the reason; "
    "no target was changed",
)
def test_a_canary_that_fails_more_often_is_removed_with_all_numbers_as_the_reason() -> None:
    world = analysed()
    served = list(world.served)
    minutes(world, 1)
    minutes(world, 4, canary=(25, 100))
    status = world.generation(2).status
    assert (status.outcome, world.canaries, world.served) == ("RolledBack", {}, served)
    why = status.rollout.rollback_reason
    assert why.startswith("metric errors: ")
    assert "requests of the canary are bad" in why
    assert "of shop-g1 (2.00%); maxRegression 0, e-value" in why
    assert verdicts(world)[-1] == "Fail"
    assert "MetricFailed" in world.events
    asked = len(world.queried)
    minutes(world, 3)
    assert len(world.queried) == asked


def test_a_regression_that_is_allowed_aborts_nothing() -> None:
    eased = {**RATIO, "ratio": {**RATIO["ratio"], "maxRegression": "0.3"}}
    world = analysed(eased)
    minutes(world, 9, canary=(25, 100))
    assert verdicts(world) == ["Pass"] * 9
    assert rollout_of(world).analysis[-1].value == "0.23"


def test_a_value_outside_its_bounds_in_a_row_removes_the_canary() -> None:
    world = analysed(LATENCY)
    minutes(world, 1)
    world.measured = {"latency": 0.5}
    minutes(world, 2)
    assert world.canaries
    minutes(world, 1)
    assert world.generation(2).status.outcome == "RolledBack"
    assert "metric latency is outside its bounds (max 0.25)" in rollout_of(world).rollback_reason


def test_automatic_false_concerns_the_bake_alone() -> None:
    world = analysed(LATENCY)
    spec = world.spec["rollout"]
    world.edit(rollout={**spec, "rollback": {"automatic": False}})
    world.measured = {"latency": 0.5}
    minutes(world, 4)
    assert world.generation(2).status.outcome == "RolledBack"


@pytest.mark.survives(
    "Deployments",
    "Prometheus has no number during a canary, and `onNoData` is `Fail`",
    "the canary is removed; outcome `RolloutFailed`, and `retry.g<number>` rolls it out again",
)
def test_with_fail_a_canary_without_data_may_be_rolled_out_again() -> None:
    world = analysed(onNoData="Fail")
    world.measured = {"errors": None}
    minutes(world, 3)
    assert (world.canaries, world.generation(2).status.outcome) == ({}, "RolloutFailed")
    assert rollout_of(world).failure == "NoData"
    assert "metric errors has no number in 3 samples in a row" in rollout_of(world).rollback_reason
    world.measured = {}
    world.ask("retry.g2@1")
    minutes(world, 3)
    assert (rollout_of(world).step, len(world.canaries)) == (1, 1)
    minutes(world, 40)
    assert world.generation(2).status.outcome == "Live"


def test_a_retry_goes_on_with_the_evidence_of_the_attempt_before() -> None:
    world = analysed(onNoData="Fail")
    minutes(world, 3)
    before = rollout_of(world).comparisons
    world.measured = {"errors": None}
    minutes(world, 3)
    world.measured = {}
    world.ask("retry.g2@1")
    world.settle()
    assert rollout_of(world).comparisons == before


def test_with_wait_a_step_without_data_lasts_until_there_is_some() -> None:
    world = analysed()
    world.measured = {"errors": None}
    minutes(world, 30)
    assert rollout_of(world).step == 1
    assert "NoData (canary: total: no series" in world.update.status.progress.waiting_for
    assert summary(world) == "canary 10 %, step 1/2, waits for metrics"
    assert world.condition("ActionRequired").status == "False"
    world.measured = {}
    minutes(world, 1)
    assert rollout_of(world).step == 2


def test_with_hold_a_user_is_told_that_there_is_no_data() -> None:
    world = analysed(onNoData="Hold")
    world.measured = {"errors": None}
    minutes(world, 3)
    required = world.condition("ActionRequired")
    assert (required.status, required.reason) == ("True", "NoData")
    assert "rollback.g2@<token>" in required.message
    world.measured = {}
    minutes(world, 1)
    assert world.condition("ActionRequired").status == "False"


def test_a_selector_that_prometheus_refuses_must_be_changed_by_a_user() -> None:
    world = analysed(LATENCY, RATIO)
    world.measured = {"latency": 0.1, "errors": REFUSED}
    minutes(world, 1)
    required = world.condition("ActionRequired")
    assert (required.status, required.reason) == ("True", "QueryFailed")
    assert (
        "canary: total: Prometheus: parse error; change spec.rollout.analysis.metrics[1].ratio"
        in required.message
    )


def test_a_step_lasts_until_the_canary_has_had_its_requests() -> None:
    world = analysed(steps=[{**STEPS[0], "minRequests": 1500}, STEPS[1]])
    minutes(world, 12)
    assert rollout_of(world).step == 1
    assert summary(world) == "canary 10 %, step 1/2, 1200/1500 requests"
    assert (
        "the canary has had 1,200 of 1,500 requests by metric errors "
        "(rollout.strategy.canary.steps[0].minRequests)" in world.update.status.progress.waiting_for
    )
    minutes(world, 2)
    assert rollout_of(world).step == 1
    minutes(world, 1)
    assert rollout_of(world).step == 2


def test_requests_of_an_earlier_step_do_not_count_for_the_next() -> None:
    steps = [STEPS[0], {**STEPS[1], "duration": "1m", "minRequests": 1000}]
    world = analysed(steps=steps)
    minutes(world, 11)
    assert rollout_of(world).step == 2
    minutes(world, 9)
    assert rollout_of(world).steps_ended_at is None
    minutes(world, 4)
    assert rollout_of(world).steps_ended_at


def test_requests_do_not_end_a_step_before_its_duration() -> None:
    world = analysed(steps=[{**STEPS[0], "minRequests": 10}, STEPS[1]])
    minutes(world, 9)
    assert rollout_of(world).step == 1


@pytest.mark.parametrize("due", ["1m", "2m"])
def test_a_step_that_is_as_short_as_an_interval_lasts_until_its_test_has_compared(due) -> None:
    world = analysed(steps=[{**STEPS[0], "duration": due}])
    minutes(world, 1)
    minutes(world, 1, canary=(60, 100))
    assert rollout_of(world).rollback_reason
    assert rollout_of(world).steps_ended_at is None


def test_a_restart_of_the_operator_at_any_minute_changes_no_evidence() -> None:
    kept, restarted = analysed(), analysed()
    for world in (kept, restarted):
        for _ in range(15):
            minutes(world, 1, canary=(3, 100))
            if world is restarted:
                world.restart_operator()
                world.settle()
                world.repeat()
    assert rollout_of(kept).comparisons == rollout_of(restarted).comparisons


def test_a_sample_is_recorded_and_fails_a_canary_whose_step_is_held() -> None:
    world = analysed()
    minutes(world, 1)
    world.refusing = {"Deployment ranker-canary": "WriteRefused"}
    minutes(world, 4, canary=(40, 100))
    assert rollout_of(world).rollback_reason


def test_metrics_removed_from_the_spec_no_longer_hold_a_step() -> None:
    world = analysed()
    world.measured = {"errors": None}
    minutes(world, 12)
    assert rollout_of(world).step == 1
    spec = {k: v for k, v in world.spec["rollout"].items() if k != "analysis"}
    world.edit(rollout=spec)
    minutes(world, 1)
    assert rollout_of(world).step == 2


@pytest.mark.parametrize("word", ["Fail", "NoData"])
def test_a_recorded_failure_counts_though_the_next_sample_after_a_restart_passes(word) -> None:
    world = analysed(LATENCY, onNoData="Fail")
    world.measured = {"latency": 0.5 if word == "Fail" else None}
    minutes(world, 2)
    world.now += timedelta(minutes=1)
    world.measure(world.step())
    world.crash_after(1)
    assert verdicts(world) == [word] * 3
    world.restart_operator()
    world.measured = {"latency": 0.1}
    world.now += timedelta(minutes=5)
    query = Query("shop-g2", "latency", PROMETHEUS["address"], world.queried[-1])
    world.samples = (world._answer(query),)
    world.settle()
    assert verdicts(world) == [word] * 3
    outcome = "RolledBack" if word == "Fail" else "RolloutFailed"
    assert world.generation(2).status.outcome == outcome


def test_samples_from_before_a_pin_do_not_count_in_the_canary_after_it() -> None:
    world = analysed(LATENCY)
    world.measured = {"latency": 0.5}
    minutes(world, 2)
    world.pin(1)
    world.settle()
    world.pin(None)
    minutes(world, 3)
    assert verdicts(world) == ["Fail"]
    assert not rollout_of(world).rollback_reason


def test_an_edited_weight_that_is_not_possible_leaves_the_canary_as_it_is_and_watched() -> None:
    world = analysed(LATENCY)
    world.target = replace(world.target, desired=1)
    minutes(world, 1)
    spec = world.spec["rollout"]["analysis"]
    set_strategy(world, {"weight": 30, "duration": "10m"}, STEPS[1], analysis=spec)
    minutes(world, 1)
    rollout = rollout_of(world)
    assert (rollout.weight, world.condition("Stalled").reason) == (10, "WeightNotPossible")
    world.measured = {"latency": 0.5}
    minutes(world, 3)
    assert world.generation(2).status.outcome == "RolledBack"
