"""Metrics of live traffic during a bake: what is asked, recorded, and decided from it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from lifecycle.invariants import Invariants
from lifecycle.test_bake import baking, later
from lifecycle.world import World
from lifecycle.world_traffic import REFUSED

from springtide_operator.lifecycle.state.plan import Query

ERRORS = {
    "name": "errors",
    "value": {
        "query": 'sum(rate(errors{namespace="{{namespace}}",pod=~"{{target}}-.*",'
        'generation="{{generation}}",role="{{role}}"}[5m]))',
        "max": "0.05",
    },
}
ANALYSIS = {"prometheus": {"address": "http://prometheus.monitoring:9090"}, "metrics": [ERRORS]}


def analysed(promotions: int = 2, automatic: bool = True, **analysis: object) -> World:
    """A world whose newest generation bakes, with an error rate of 0.01."""
    world = World()
    world.measured = {"errors": 0.01}
    rollout = {"analysis": {**ANALYSIS, **analysis}, "rollback": {"automatic": automatic}}
    return baking(promotions, world=world, **rollout)


def ring(world: World, number: int = 2) -> list[tuple[str | None, str]]:
    samples = world.generation(number).status.rollout.analysis
    return [(sample.value, sample.verdict) for sample in samples]


def test_each_interval_a_metric_is_asked_for_with_its_placeholders_replaced() -> None:
    world = analysed()
    assert world.queried == []
    later(world, 3)
    assert (
        world.queried
        == ['sum(rate(errors{namespace="search",pod=~"ranker-.*",generation="2",role="live"}[5m]))']
        * 3
    )
    assert ring(world) == [("0.01", "Pass")] * 3
    (first, *_) = world.generation(2).status.rollout.analysis
    promoted = world.generation(2).status.rollout.promoted_at
    assert (first.metric, first.bound) == ("errors", "max 0.05")
    assert first.time == promoted + timedelta(minutes=1)


def test_a_query_is_due_when_the_plan_says_to_decide_again() -> None:
    world = analysed(interval="90s")
    promoted = world.generation(2).status.rollout.promoted_at
    while not ring(world):
        world.now += world.plan.wake_after
        world.settle()
    assert world.now == promoted + timedelta(seconds=90)


def test_the_status_keeps_16_samples_and_those_of_the_operator_before() -> None:
    world = analysed(failureLimit=5)
    later(world, 20)
    assert len(ring(world)) == 16
    world.restart_operator()
    world.measured = {"errors": 0.2}
    later(world, 3)
    world.restart_operator()
    later(world, 1)
    assert not world.generation(2).status.rollout.rollback_reason
    later(world, 1)
    assert world.generation(2).status.rollout.rollback_reason


@pytest.mark.survives(
    "Deployments",
    "a metric of a promoted generation is outside its bounds during the bake",
    "after failureLimit samples in a row every target is rolled back to the generation before",
)
def test_failures_in_a_row_roll_back_with_metric_values_and_bound() -> None:
    world = analysed()
    first = world.generation(1).status.artifact.served_digest
    world.measured = {"errors": 0.2}
    later(world, 2)
    assert not world.generation(2).status.rollout.rollback_reason
    assert "metric errors: Fail (0.2; max 0.05)" in world.update.status.progress.waiting_for
    world.measured = {"errors": 0.3}
    later(world, 1)
    assert world.generation(2).status.rollout.rollback_reason == (
        "metric errors is outside its bounds (max 0.05) in 3 samples in a row: 0.2, 0.2, 0.3 "
        "(rollout.analysis)"
    )
    assert world.target.digest == first
    world.rounds(1)
    assert world.update.status.live.number == 1
    assert world.generation(2).status.outcome == "RolledBack"
    asked = len(world.queried)
    later(world, 5)
    assert len(world.queried) == asked


def test_a_sample_that_passes_ends_the_row() -> None:
    world = analysed()
    for value in (0.2, 0.2, 0.01, 0.2, 0.2, 0.01):
        world.measured = {"errors": value}
        later(world, 1)
    assert not world.generation(2).status.rollout.rollback_reason


def test_samples_without_a_number_neither_count_nor_end_the_row() -> None:
    world = analysed()
    for value in (0.2, None, 0.2, None, 0.2):
        world.measured = {"errors": value}
        later(world, 1)
    assert world.generation(2).status.rollout.rollback_reason


def test_a_value_on_its_bound_passes_and_a_minimum_is_a_bound_too() -> None:
    ranked = {"name": "clicks", "value": {"query": "clicks", "min": "0.1", "max": "0.9"}}
    world = analysed(metrics=[ranked], failureLimit=1)
    for value in (0.1, 0.9):
        world.measured = {"clicks": value}
        later(world, 1)
    assert ring(world) == [("0.1", "Pass"), ("0.9", "Pass")]
    world.measured = {"clicks": 0.0999}
    later(world, 1)
    assert "(min 0.1, max 0.9)" in world.generation(2).status.rollout.rollback_reason


@pytest.mark.survives(
    "Deployments",
    "a metric of `rollout.analysis` has a value below 1e-99, such as a p-value",
    "it is compared with the bounds as it is, and recorded as 0: a status has no such number",
)
def test_a_value_that_is_too_small_for_a_status_is_judged_and_recorded_as_zero() -> None:
    p_value = {"name": "errors", "value": {"query": "drift_p_value", "min": "0.01"}}
    world = analysed(metrics=[p_value])
    world.measured = {"errors": 3.2e-120}
    later(world, 2)
    assert ring(world) == [("0", "Fail")] * 2
    later(world, 1)
    assert world.generation(2).status.rollout.rollback_reason


def test_events_are_posted_when_a_verdict_changes() -> None:
    world = analysed(failureLimit=8)
    for value in (0.01, 0.2, 0.2, None, REFUSED, 0.01):
        world.measured = {"errors": value}
        later(world, 1)
    changes = ["MetricFailed", "MetricWithoutData", "QueryFailed", "MetricPassed"]
    assert [reason for reason in world.events if reason in changes] == changes
    assert "shop-g2: metric errors: 0.2, bounds: max 0.05" in world.event_messages


def test_with_wait_a_bake_without_data_lasts_until_there_is_some() -> None:
    world = analysed()
    world.measured = {}
    later(world, 90)
    rollout = world.generation(2).status.rollout
    assert (rollout.baked_at, rollout.rollback_reason) == (None, "")
    assert "metric errors: NoData (no series; max 0.05)" in world.update.status.progress.waiting_for
    assert world.condition("ActionRequired").status == "False"
    world.measured = {"errors": 0.01}
    later(world, 1)
    assert world.generation(2).status.rollout.baked_at


def test_with_hold_a_user_is_told_that_there_is_no_data() -> None:
    world = analysed(onNoData="Hold")
    world.measured = {}
    later(world, 2)
    assert world.condition("ActionRequired").status == "False"
    later(world, 1)
    required = world.condition("ActionRequired")
    assert (required.status, required.reason) == ("True", "NoData")
    assert "metric errors has no number in 3 samples in a row: no series" in required.message
    world.measured = {"errors": 0.01}
    later(world, 1)
    assert world.condition("ActionRequired").status == "False"


@pytest.mark.survives(
    "Deployments",
    "Prometheus has no number during a bake, and `onNoData` is `Fail`",
    "the targets return to the generation before; outcome `RolloutFailed`: it does not count as "
    "rolled back, its rows are not suspected, and `retry.g<number>` rolls it out again",
)
def test_with_fail_a_generation_without_data_returns_and_may_be_rolled_out_again() -> None:
    world = analysed(onNoData="Fail")
    Invariants(world)
    world.measured = {}
    later(world, 3)
    rollout = world.generation(2).status.rollout
    assert "has no number in 3 samples in a row" in rollout.rollback_reason
    for _ in range(3):  # while the targets go back it is counted once
        world.step()
    assert world.update.status.counters.promoted == 2
    world.rounds(1)
    second = world.generation(2).status
    assert (second.outcome, second.rollout.failure) == ("RolloutFailed", "NoData")
    assert world.update.status.live.number == 1
    assert world.update.status.counters.rolled_back == 0
    assert world.condition("ActionRequired").status == "False"
    world.measured = {"errors": 0.01}
    world.ask("retry.g2@1")
    world.rounds(3)
    second = world.generation(2).status
    assert (second.outcome, len(second.rollout.attempts)) == ("Live", 1)
    assert world.update.status.counters.promoted == 3
    later(world, 61)
    assert world.generation(2).status.rollout.baked_at


def test_a_query_that_prometheus_refuses_must_be_changed_by_a_user() -> None:
    world = analysed()
    world.measured = {"errors": REFUSED}
    later(world, 1)
    required = world.condition("ActionRequired")
    assert (required.status, required.reason) == ("True", "QueryFailed")
    assert "Prometheus: parse error; change spec.rollout.analysis.metrics[0].value.query" in (
        required.message
    )


def test_without_an_earlier_generation_a_user_decides_about_a_metric_that_fails() -> None:
    world = analysed(promotions=1)
    world.measured = {"errors": 0.2}
    later(world, 3)
    required = world.condition("ActionRequired")
    assert (required.status, required.reason) == ("True", "BakeFailed")
    assert "metric errors is outside its bounds" in required.message
    assert not world.generation(1).status.rollout.rollback_reason


def test_a_bake_whose_newest_sample_fails_does_not_end() -> None:
    world = analysed(automatic=False)
    world.measured = {"errors": 0.2}
    later(world, 70)
    assert not world.generation(2).status.rollout.baked_at
    assert world.condition("ActionRequired").reason == "BakeFailed"
    world.measured = {"errors": 0.01}
    later(world, 1)
    assert world.generation(2).status.rollout.baked_at


def test_a_bake_that_ended_while_no_operator_ran_waits_for_a_sample_of_now() -> None:
    world = analysed()
    later(world, 1)
    assert ring(world) == [("0.01", "Pass")]
    world.restart_operator()
    world.measured = {"errors": 0.2}
    world.now = world.generation(2).status.rollout.bake_until + timedelta(hours=1)
    world.settle()
    assert not world.generation(2).status.rollout.baked_at
    assert ring(world) == [("0.01", "Pass"), ("0.2", "Fail")]
    later(world, 2)
    assert "3 samples in a row" in world.generation(2).status.rollout.rollback_reason


def test_samples_under_other_bounds_no_longer_count() -> None:
    world = analysed()
    world.measured = {"errors": 0.2}
    later(world, 2)
    eased = {**ERRORS, "value": {**ERRORS["value"], "max": "0.1"}}
    rollout = world.spec["rollout"]
    world.edit(rollout={**rollout, "analysis": {**ANALYSIS, "metrics": [eased]}})
    later(world, 1)
    assert not world.generation(2).status.rollout.rollback_reason
    later(world, 2)
    assert "(max 0.1)" in world.generation(2).status.rollout.rollback_reason


def test_a_sample_that_cannot_be_written_is_not_asked_for_again_at_once() -> None:
    world = analysed()
    world.now += timedelta(minutes=1)
    plan = world.step()
    assert world.measure(plan)
    seen = world.seen()
    assert seen.samples
    assert world.step().queries == ()


def test_a_second_operator_with_an_older_sample_records_nothing_twice() -> None:
    world = analysed()
    later(world, 2)
    before = ring(world)
    world.repeat()
    world.decide_on_old_observation()
    world.settle()
    assert ring(world) == before


def test_a_slow_prometheus_delays_nothing_else() -> None:
    world = analysed()
    world.prometheus_answers = False
    world.months.append("2025-04")
    world.rounds(8)
    assert world.generation(3).status.verdict == "Accepted"
    assert world.plan.queries
    assert world.plan.wake_after <= timedelta(seconds=30)


def test_a_host_that_the_installation_does_not_allow_is_named_before_anything_is_trained() -> None:
    world = World()
    world.prometheus_hosts = frozenset({"thanos.monitoring:10902"})
    rollout = {**world.spec["rollout"], "bake": {"duration": "1h"}, "analysis": ANALYSIS}
    world.edit(rollout=rollout)
    world.settle()
    required = world.condition("ActionRequired")
    assert (required.status, required.reason) == ("True", "HostNotAllowed")
    assert required.message == (
        "spec.rollout.analysis.prometheus.address: host prometheus.monitoring:9090 is not "
        "allowed, so the metrics would have no numbers; change it, or add the host to "
        "operator.prometheusHosts of the chart; allowed now: thanos.monitoring:10902"
    )
    assert world.condition("Ready").status == "True"


@pytest.mark.parametrize("word", ["Fail", "NoData"])
def test_a_recorded_failure_counts_though_the_next_sample_after_a_restart_passes(word) -> None:
    world = analysed(onNoData="Fail")
    world.measured = {"errors": 0.2 if word == "Fail" else None}
    later(world, 2)
    world.now += timedelta(minutes=1)
    world.measure(world.step())
    world.crash_after(1)
    known = ring(world)
    assert [verdict for _, verdict in known] == [word] * 3
    world.restart_operator()
    world.measured = {"errors": 0.01}
    world.now += timedelta(minutes=5)
    address = ANALYSIS["prometheus"]["address"]
    world.samples = (world._answer(Query("shop-g2", "errors", address, world.queried[-1])),)
    world.settle()
    assert ring(world) == known
    assert world.generation(2).status.rollout.rollback_reason
