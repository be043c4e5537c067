"""A bake with a holdback compares the requests of both generations, and rolls back what fails."""

from __future__ import annotations

import re

import pytest
from lifecycle.canary_scenes import later
from lifecycle.gateway_scenes import rollout_of
from lifecycle.holdback_scenes import ANALYSIS, baking, fail_live, held_back, in_bake, verdicts
from lifecycle.test_canary_analysis import LATENCY
from lifecycle.warm_scenes import notes

from springtide_judging.two_binomials import REGRESSIONS


def test_both_sides_are_asked_for_since_the_share_was_seen_by_the_labels_of_their_pods() -> None:
    both = {"bad": '{generation="{{generation}}",role="{{role}}",bad="1"}'}
    both |= {"total": '{generation="{{generation}}",role="{{role}}"}', "maxRegression": "0"}
    metrics = [LATENCY, {"name": "errors", "ratio": both}]
    world = baking(analysis={**ANALYSIS, "metrics": metrics})
    later(world, 2)
    assert {sample.metric for sample in rollout_of(world).analysis} >= {"latency"}
    world.queried.clear()
    later(world, 2)
    found = {
        re.search(r'generation="(\d)",role="(\w+)".*?\[(\d+)s\]', query).groups()
        for query in world.queried
        if query.startswith("sum(")
    }
    since = rollout_of(world).holdback_seen_at
    seconds = int((world.now - since).total_seconds())
    assert found == {
        (number, role, str(each))
        for number, role in (("2", "live"), ("1", "canary"))
        for each in (seconds - 60, seconds)
    }


@pytest.mark.survives(
    "Deployments",
    "a promoted generation answers more of its requests with errors than the previous one, which "
    "`bake.holdback` keeps",
    "it is rolled back within some intervals, with the requests of both and the e-value as the "
    "reason; the previous one keeps its share until the target is back",
)
def test_a_generation_that_fails_more_often_than_previous_is_rolled_back() -> None:
    world = held_back()
    fail_live(world)
    noted = notes(world)
    world.pods_ready = False
    later(world, 5)
    why = rollout_of(world).rollback_reason
    assert "requests of shop-g2 are bad" in why
    assert "of shop-g1 (2.00%); maxRegression 0, e-value" in why
    assert "MetricFailed" in world.events
    newest = rollout_of(world).analysis[-1]
    assert newest.message.startswith("live ")
    assert ", previous " in newest.message
    assert (noted, world.weights()) == ([("target", 1)], (90, 10))
    world.pods_ready = True
    later(world, 2)
    assert noted == [("target", 1), ("weights", (100, 0)), ("deleted", (100, 0))]
    assert world.generation(2).status.outcome == "RolledBack"
    assert world.update.status.live.number == 1


def test_equal_generations_pass_and_the_samples_are_those_of_the_bake() -> None:
    world = held_back()
    later(world, 10)
    assert {*verdicts(world)} == {"Pass"}
    assert rollout_of(world).analysis[-1].message.startswith("live 180 of 9000, previous 20 of")


def test_the_test_of_the_bake_starts_anew_and_keeps_what_the_steps_have_shown() -> None:
    world = baking()
    (before,) = rollout_of(world).comparisons
    assert before.phase == "Canary"
    assert before.watched_before.total
    world.finish_canaries()
    world.settle()
    later(world, 1)
    kept, new = rollout_of(world).comparisons
    assert kept == before
    assert (new.phase, new.since) == ("Bake", rollout_of(world).holdback_seen_at)
    assert (new.watched.total, new.baseline.total) == (900, 100)
    assert (new.watched_before.total, new.baseline_before.total) == (0, 0)
    assert [float(each) for each in new.evidence] == [0.0] * len(REGRESSIONS), "it only estimates"
    later(world, 3)
    assert [float(each) < 0 for each in in_bake(world).evidence] == [True] * len(REGRESSIONS)


def test_a_suspended_update_goes_on_comparing_and_rolls_back() -> None:
    world = held_back()
    world.edit(suspend=True)
    fail_live(world)
    later(world, 5)
    assert world.generation(2).status.outcome == "RolledBack"


def test_with_automatic_false_a_user_decides_and_the_share_stays() -> None:
    world = held_back(rollback={"automatic": False})
    fail_live(world)
    later(world, 5)
    found = world.condition("ActionRequired")
    assert found.reason == "BakeFailed"
    assert "requests of shop-g2 are bad" in found.message
    assert (verdicts(world)[-1], world.weights()) == ("Fail", (90, 10))
    asked = len(world.queried)
    later(world, 3)
    assert len(world.queried) == asked, "it looks no further"


def test_a_route_that_cannot_be_read_as_after_a_restart_interrupts_no_comparison() -> None:
    world = held_back()
    since, noted = rollout_of(world).holdback_seen_at, notes(world)
    world.route_problem = "HTTPRoutes are not listed yet"
    later(world, 1)
    assert (rollout_of(world).holdback_seen_at, noted) == (since, [])
    world.route_problem = ""
    later(world, 2)
    assert (in_bake(world).since, world.weights()) == (since, (90, 10))


def test_with_fail_a_bake_without_data_of_previous_may_be_rolled_out_again() -> None:
    world = held_back(analysis={**ANALYSIS, "onNoData": "Fail"})
    later(world, 2)
    evidence = in_bake(world).evidence
    world.measured["errors"] = None
    later(world, 6)
    assert world.generation(2).status.outcome == "RolloutFailed"
    assert rollout_of(world).failure == "NoData"
    del world.measured["errors"]
    world.ask("retry.g2@1")
    world.settle()
    assert [each.phase for each in rollout_of(world).comparisons] == ["Canary", "Bake"]
    assert in_bake(world).evidence == evidence
    later(world, 45)
    assert (world.generation(2).status.outcome, world.weights()) == ("Live", (90, 10))
