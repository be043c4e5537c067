"""In a bake the previous generation keeps a share of the requests, and ratio metrics go on."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from lifecycle.test_canary import STEPS, later
from lifecycle.test_canary_analysis import LATENCY, PROMETHEUS, RATIO
from lifecycle.test_gateway_canary import (
    TARGET,
    begin,
    gateway,
    rollout_of,
    route_record,
    with_live,
)
from lifecycle.warm_scenes import notes, promoted
from lifecycle.world import digest

from springtide_judging.two_binomials import REGRESSIONS
from springtide_operator.lifecycle.routes.actions import SetRouteWeights

if TYPE_CHECKING:
    from lifecycle.world import World

ANALYSIS: dict[str, Any] = {"prometheus": PROMETHEUS, "metrics": [RATIO]}
HELD: dict[str, Any] = {"bake": {"duration": "1h", "holdback": 10}, "analysis": ANALYSIS}
WARM: dict[str, Any] = {"rollback": {"keepWarm": True}}
GOOD = {"canary": (2, 100), "live": (18, 900), "previous": (2, 100)}
"""Bad and all requests of each side in a minute."""
DRAIN = timedelta(seconds=15)


def baking(**rollout: Any) -> World:
    """Generation 2 was promoted a moment ago; pods of generation 1 only start."""
    world = with_live(**{**HELD, **rollout})
    world.per_minute, world.measured = dict(GOOD), {"latency": 0.1}
    return promoted(world)


def held_back(**rollout: Any) -> World:
    """Generation 2 bakes, and generation 1 has 10 % of the requests."""
    world = baking(**rollout)
    world.finish_canaries()
    world.settle()
    assert world.weights() == (90, 10)
    return world


def edit(world: World, **rollout: Any) -> None:
    world.edit(rollout={**gateway(), **HELD, **rollout})
    world.settle()


def fail_live(world: World) -> None:
    """From the next minute on the promoted generation fails more often."""
    later(world, 2)
    world.per_minute["live"] = (360, 900)


def verdicts(world: World) -> list[str]:
    return [sample.verdict for sample in rollout_of(world).analysis]


def in_bake(world: World) -> Any:
    return next(each for each in rollout_of(world).comparisons if each.phase == "Bake")


@pytest.mark.survives(
    "Routes",
    "a generation bakes, and `bake.holdback` keeps 10 % of the requests on the previous one",
    "its pods get them once they are ready, and none any more from the end of the bake on; they go "
    "15 s later",
)
def test_after_the_promotion_previous_gets_its_share_until_the_bake_ends() -> None:
    world = baking()
    noted = notes(world)
    assert (world.canary.number, world.canary.desired, world.weights()) == (1, 1, (100, 0))
    assert rollout_of(world).holdback_seen_at is None
    assert "shop-g1 gets 10 % of the requests once" in world.update.status.progress.waiting_for
    world.finish_canaries()
    world.settle()
    assert noted == [("weights", (90, 10))]
    assert (route_record(world).weight, route_record(world).withdrawn_at) == (10, None)
    assert rollout_of(world).holdback_seen_at == world.now
    assert [e for e in world.events if e.endswith("HeldBack")] == ["HeldBack", "TrafficHeldBack"]
    progress = world.update.status.progress
    assert "shop-g1 has 10 % of the requests (rollout.bake.holdback)" in progress.waiting_for
    assert re.fullmatch(r"baking until \d\d:\d\d UTC, 10 % on g1", progress.summary)
    assert world.plan.holdback_weight == 10
    assert world.condition("ActionRequired").status == "False"

    later(world, 60)
    assert rollout_of(world).baked_at
    assert (world.weights(), route_record(world).weight) == ((100, 0), 0)
    assert rollout_of(world).holdback_seen_at is None
    assert world.canaries, "its pods stay until the gateway has followed"
    world.now = route_record(world).withdrawn_at + DRAIN
    world.settle()
    assert noted == [("weights", (90, 10)), ("weights", (100, 0)), ("deleted", (100, 0))]
    assert world.update.metadata.finalizers == ()
    assert world.target.number == 2


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


def test_the_bake_lasts_until_its_test_has_compared() -> None:
    world = baking(bake={"duration": "10s", "holdback": 10})
    world.now += timedelta(minutes=1)
    world.settle()
    assert rollout_of(world).baked_at is None
    waiting = world.update.status.progress.waiting_for
    assert "metric errors waits until shop-g1 has its share of the requests" in waiting
    later(world, 2)
    assert rollout_of(world).baked_at is None
    later(world, 1)
    assert rollout_of(world).baked_at


@pytest.mark.survives(
    "Routes",
    "a quota refuses the pods of a holdback",
    "the promoted generation serves, and bakes on; ActionRequired has the refusal; runs go on, and "
    "`promote` ends the bake",
)
def test_a_holdback_without_pods_prolongs_the_bake_and_says_so() -> None:
    world = baking()
    trouble = {"available": 0, "trouble": "quota exceeded: pods: 18", "stalled": "too late"}
    world.canary_pods_ready = False
    world.change_canary("ranker-canary", **trouble)
    world.now = rollout_of(world).bake_until
    world.settle()
    assert rollout_of(world).baked_at is None
    found = world.condition("ActionRequired")
    assert found.reason == "NotHeldBack"
    assert "until they are, shop-g2 is not compared with it, and bakes on" in found.message
    assert world.condition("Stalled") is None
    world.months.append("2025-04")
    world.rounds(6)
    assert world.generation(3).status.verdict == "Accepted"
    assert world.generation(3).status.rollout.step_started_at is None
    world.ask("promote.g2@good")
    world.settle()
    assert rollout_of(world).baked_at


def test_warm_pods_get_the_share_and_all_requests_in_a_rollback() -> None:
    world = held_back(**WARM)
    assert (world.canary.desired, world.weights()) == (9, (90, 10))
    noted = notes(world)
    world.pods_ready = False
    world.ask("rollback.g2@bad")
    world.settle()
    assert noted == [("weights", (0, 100)), ("target", 1)]
    world.pods_ready = True
    later(world, 2)
    assert noted[2:] == [("weights", (100, 0)), ("deleted", (100, 0))]
    assert world.generation(2).status.outcome == "RolledBack"


def test_with_some_warm_pods_ready_the_share_begins_and_the_rollback_is_the_rolling_update() -> (
    None
):
    world = baking(**WARM)
    world.canary_pods_ready = False
    world.change_canary("ranker-canary", available=3)
    world.settle()
    assert world.weights() == (90, 10)
    noted = notes(world)
    world.ask("rollback.g2@bad")
    while not noted:
        world.step()
    assert (noted, world.weights()) == ([("target", 1)], (90, 10))


@pytest.mark.survives(
    "Routes",
    "all pods of a generation that bakes crash, beside a holdback of one pod",
    "it is rolled back; the one pod keeps its share, and never gets all requests",
)
def test_pods_of_a_share_never_get_all_requests() -> None:
    world = held_back()
    noted = notes(world)
    world.crash_a_pod()
    world.target = replace(world.target, available=0, ready=0, failing=9)
    for _ in range(11):
        world.now += timedelta(minutes=1)
        world.settle()
    assert "longer than 10m" in rollout_of(world).rollback_reason
    assert (noted, world.weights()) == ([("target", 1)], (90, 10))
    world.recover_pods()
    later(world, 2)
    assert world.generation(2).status.outcome == "RolledBack"
    assert (world.weights(), world.canaries) == ((100, 0), {})


@pytest.mark.parametrize("how", ["crashed", "deleted", "edited"])
@pytest.mark.survives(
    "Routes",
    "pods of a holdback crash, or are deleted or edited",
    "the weight is 0 at once; they get their share again once they are ready, and the evidence of "
    "the comparison goes on",
)
def test_pods_that_are_lost_lose_their_share_until_they_are_there_again(how: str) -> None:
    world = held_back()
    later(world, 5)
    before, noted = in_bake(world), notes(world)
    if how == "crashed":
        world.crash_canaries()
    elif how == "deleted":
        del world.canaries["ranker-canary"]
    else:
        world.edit_canary("ranker-canary")
    world.settle()
    assert noted[0] == ("weights", (100, 0))
    assert (world.weights(), rollout_of(world).holdback_seen_at) == ((100, 0), None)
    assert world.condition("ActionRequired").status == "False"
    world.canary_pods_ready = True
    later(world, 3)
    assert (world.canary.number, world.weights()) == (1, (90, 10))
    assert rollout_of(world).baked_at is None
    later(world, 2)
    now = in_bake(world)
    assert now.since == rollout_of(world).holdback_seen_at > before.since
    assert (now.baseline_before, now.watched_before) == (before.baseline, before.watched)


def test_a_share_keeps_its_weight_while_one_of_its_pods_is_ready() -> None:
    world = held_back(bake={"duration": "1h", "holdback": 10})
    world.target = replace(world.target, desired=27, updated=27, available=27)
    later(world, 2)
    assert world.canary.desired == 3
    world.canary_pods_ready = False
    world.change_canary("ranker-canary", available=1)
    world.settle()
    assert world.weights() == (90, 10)


def test_pods_follow_the_size_of_the_target_and_not_how_many_of_its_pods_are_available() -> None:
    world = held_back()
    for desired, pods in ((27, 3), (30, 3), (31, 4), (4, 1)):
        world.target = replace(world.target, desired=desired, updated=desired, available=desired)
        later(world, 1)
        assert (world.canary.desired, world.weights()) == (pods, (90, 10))
    world.target = replace(world.target, desired=31, updated=31, available=31)
    later(world, 1)
    world.crash_a_pod()
    world.settle()
    assert (world.target.available, world.canary.desired) == (1, 4)


def test_a_share_that_rises_waits_for_pods_and_one_that_falls_goes_before_them() -> None:
    world = held_back()
    noted = notes(world)
    world.canary_pods_ready = False
    edit(world, bake={"duration": "1h", "holdback": 40})
    assert (noted, world.weights()) == ([("canary", (1, 4))], (90, 10))
    world.canary_pods_ready = True
    world.finish_canaries()
    world.settle()
    assert (noted[1:], world.weights()) == ([("weights", (60, 40))], (60, 40))
    edit(world, bake={"duration": "1h", "holdback": 20})
    assert noted[2:] == [("weights", (80, 20)), ("canary", (1, 2))]
    assert rollout_of(world).holdback_seen_at == world.now


@pytest.mark.parametrize("how", ["holdback", "strategy", "bake", "mode", "route"])
def test_what_the_spec_no_longer_asks_for_ends_as_a_canary_does(how: str) -> None:
    world = held_back()
    noted = notes(world)
    kept = {k: v for k, v in TARGET.items() if k not in {"service", "httpRoute"}}
    if how == "holdback":
        edit(world, bake={"duration": "1h"})
    elif how == "strategy":
        world.edit(rollout={"targets": [kept], "bake": {"duration": "1h"}})
    elif how == "bake":
        world.edit(rollout=gateway())
    elif how == "mode":
        world.edit(mode="Observe")
    else:
        world.create_route("other")
        edit(world, targets=[{**TARGET, "httpRoute": "other"}])
    world.settle()
    assert noted == [("weights", (100, 0))]
    world.now += DRAIN
    world.settle()
    assert noted[1:] == [("deleted", (100, 0))]
    assert world.update.metadata.finalizers == ()
    assert world.target.number == 2


def test_without_the_holdback_warm_pods_stay_without_requests() -> None:
    world = held_back(**WARM)
    edit(world, bake={"duration": "1h"}, **WARM)
    later(world, 2)
    assert (world.weights(), world.canary.desired) == ((100, 0), 9)
    edit(world, **WARM)
    assert world.weights() == (90, 10)


def test_a_target_that_is_no_longer_named_gets_all_its_requests_back() -> None:
    world = held_back()
    other = {**TARGET, "targetRef": {"name": "reranker"}, "service": "re", "httpRoute": "re"}
    world.create_route("re", re=100, re_canary=0)
    world.create_target_of({"targetRef": {"name": "reranker"}, "container": "server"})
    edit(world, targets=[other])
    assert world.weights() == (100, 0)
    later(world, 1)
    assert "ranker-canary" not in world.canaries


@pytest.mark.parametrize("number", [1, 2])
def test_a_pin_ends_the_share_and_the_comparison_goes_on_with_the_bake_after_it(
    number: int,
) -> None:
    world = held_back()
    later(world, 5)
    before = in_bake(world)
    world.pin(number)
    world.settle()
    assert world.weights() == (100, 0)
    later(world, 1)
    assert (world.canaries, world.target.number) == ({}, number)
    world.pin(None)
    later(world, 4)
    assert (world.target.number, world.weights()) == (2, (90, 10))
    later(world, 2)
    now = in_bake(world)
    assert now.baseline_before == before.baseline
    assert now.since == rollout_of(world).holdback_seen_at >= rollout_of(world).bake_started_at


def test_a_suspended_update_goes_on_comparing_and_rolls_back() -> None:
    world = held_back()
    world.edit(suspend=True)
    fail_live(world)
    later(world, 5)
    assert world.generation(2).status.outcome == "RolledBack"


def test_a_rollback_that_freezes_the_update_leaves_no_share() -> None:
    world = held_back(rollback={"freezeAfter": 1})
    fail_live(world)
    later(world, 7)
    assert world.update.status.phase == "Frozen"
    assert (world.weights(), world.canaries) == ((100, 0), {})


@pytest.mark.survives(
    "Deployments",
    "a user requests the rollback of a generation that bakes beside a holdback, and requests "
    "`promote` of another",
    "the share stays until the target is back; the promotion takes it back as the end of the bake",
)
@pytest.mark.parametrize("verb", ["rollback", "promote"])
def test_a_request_ends_the_share(verb: str) -> None:
    world = held_back()
    noted = notes(world)
    world.ask(f"{verb}.g2@1")
    world.settle()
    later(world, 2)
    target = [("target", 1)] if verb == "rollback" else []
    assert noted == [*target, ("weights", (100, 0)), ("deleted", (100, 0))]


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


@pytest.mark.survives(
    "People",
    "the record of a generation that bakes beside a holdback is deleted, or that of the previous",
    "the requests return to the target, then the pods go",
)
@pytest.mark.parametrize("number", [1, 2])
def test_a_record_that_is_deleted_ends_the_share(number: int) -> None:
    world = held_back()
    noted = notes(world)
    world.delete_generation(f"shop-g{number}")
    world.check.__self__.forget_generation(f"shop-g{number}")
    later(world, 2)
    assert noted == [("weights", (100, 0)), ("deleted", (100, 0))]
    assert world.target.number == 2
    if number == 1:
        later(world, 60)
        assert rollout_of(world).baked_at, "there is nothing to compare with"


def test_pods_stay_until_the_gateway_has_followed_though_no_record_tells_since_when() -> None:
    world = held_back()
    world.delete_generation("shop-g2")
    world.check.__self__.forget_generation("shop-g2")
    world.settle()
    assert world.weights() == (100, 0)
    world.now += DRAIN - timedelta(seconds=1)
    assert world.settle().wake_after == timedelta(seconds=1)
    assert world.canaries
    world.now += timedelta(seconds=1)
    world.settle()
    assert not world.canaries


def test_a_target_that_is_scaled_to_0_has_no_share_to_give() -> None:
    world = held_back()
    world.target = replace(world.target, desired=0, updated=0, available=0)
    later(world, 1)
    assert (world.canary.desired, world.weights()) == (0, (100, 0))
    world.target = replace(world.target, desired=9, updated=9, available=9)
    later(world, 2)
    assert (world.canary.desired, world.weights()) == (1, (90, 10))


def test_a_rollback_of_a_target_that_was_scaled_to_0_is_over_without_requests() -> None:
    world = held_back()
    world.ask("rollback.g2@bad")
    world.pods_ready = False
    world.settle()
    world.target = replace(world.target, desired=0, updated=0, available=0)
    later(world, 2)
    assert world.generation(2).status.outcome == "RolledBack"
    assert (world.weights(), world.canaries) == ((100, 0), {})


def test_a_rollback_that_makes_no_progress_gives_the_room_of_the_share_free() -> None:
    world = held_back()
    world.ask("rollback.g2@bad")
    world.pods_ready = False
    world.settle()
    world.target = replace(world.target, stalled="its pods exceed the quota")
    later(world, 9)
    assert world.weights() == (90, 10)
    later(world, 14)
    assert (world.weights(), world.canaries) == ((100, 0), {})
    assert world.generation(2).status.outcome == "RolledBack"


def test_a_target_that_is_added_in_the_bake_gets_its_share_before_the_comparison_goes_on() -> None:
    other = {**TARGET, "targetRef": {"name": "reranker"}, "service": "re", "httpRoute": "re"}
    world = held_back()
    world.create_route("re", re=1000, re_canary=0)
    world.create_target_of({"targetRef": {"name": "reranker"}, "container": "server"}, desired=3)
    edit(world, targets=[TARGET, other])
    assert (world.weights(), world.weights("re")) == ((90, 10), (1000, 0))
    assert rollout_of(world).holdback_seen_at is None
    later(world, 2)
    assert (world.weights(), world.weights("re")) == ((90, 10), (900, 100))
    assert rollout_of(world).holdback_seen_at == world.now - timedelta(minutes=1)


def test_two_targets_behind_one_route_have_their_shares() -> None:
    targets = [
        {**TARGET, "targetRef": {"name": name}, "service": name} for name in ("ranker", "reranker")
    ]
    world = with_live(**HELD)
    world.create_routes()
    world.create_target_of({"targetRef": {"name": "reranker"}, "container": "server"}, desired=30)
    edit(world, targets=targets)
    world.per_minute = dict(GOOD)
    world.now += timedelta(hours=1)
    world.settle()
    begin(world)
    later(world, 35)
    assert world.generation(2).status.outcome == "Live"
    later(world, 1)
    assert [each.deployment.desired for each in world.canaries.values()] == [1, 3]
    assert world.weights() == (90, 10, 90, 10)
    world.crash_canaries()
    world.canaries["ranker-canary"] = replace(
        world.canaries["ranker-canary"],
        deployment=replace(world.canaries["ranker-canary"].deployment, available=1),
    )
    world.settle()
    assert world.weights() == (90, 10, 100, 0)
    assert rollout_of(world).holdback_seen_at is None


@pytest.mark.survives(
    "Routes",
    "another client changes the weights of a route that has the share of a holdback",
    "it is reported and not fought over, and the comparison waits; the end of the bake restores "
    "the owner's weights",
)
@pytest.mark.parametrize("weights", [(100, 0), (60, 40)])
def test_weights_of_another_client_are_reported_and_not_fought_over(
    weights: tuple[int, int],
) -> None:
    world = held_back()
    later(world, 3)
    world.weigh(*weights)
    later(world, 2)
    assert (world.weights(), rollout_of(world).holdback_seen_at) == (weights, None)
    found = world.condition("ActionRequired")
    assert found.reason == "FieldConflict"
    assert "the comparison goes on once they are 90 and 10 again" in found.message
    world.weigh(90, 10)
    world.settle()
    assert rollout_of(world).holdback_seen_at == world.now
    assert world.condition("ActionRequired").status == "False"
    world.weigh(*weights)
    world.settle()
    world.ask("promote.g2@1")
    later(world, 2)
    assert (world.weights(), world.canaries) == ((100, 0), {})


def test_a_change_of_the_targets_owner_reaches_the_pods_without_requests() -> None:
    world = held_back()
    noted = notes(world)
    world.pods_ready = False
    changed = {"template": digest("another image"), "changed_by": "helm", "available": 5}
    world.target = replace(world.target, **changed)
    world.settle()
    assert noted == [("weights", (100, 0))]
    world.pods_ready = True
    later(world, 2)
    assert noted[1:] == [("canary", (1, 1)), ("weights", (90, 10))]
    assert world.canaries["ranker-canary"].made_from == digest("another image")


def test_a_share_that_the_owners_weights_cannot_express_is_refused_before_the_first_step() -> None:
    steps = [{"weight": 50, "duration": "10m"}]
    world = with_live(**{**HELD, "strategy": gateway(steps)["strategy"]})
    world.weigh(2, 0)
    world.now += timedelta(hours=1)
    world.settle()
    begin(world)
    assert not world.canaries
    found = world.condition("ActionRequired")
    assert found.reason == "RouteTooCoarse"
    assert "10 % is no whole number" in found.message


def test_a_refused_patch_holds_nothing_else_up() -> None:
    world = baking()
    world.refusing = {"HTTPRoute shop": "PatchRefused"}
    later(world, 1)
    assert world.weights() == (100, 0)
    assert world.condition("ActionRequired").reason == "PatchRefused"
    world.target = replace(world.target, desired=27)
    later(world, 2)
    assert world.canary.desired == 3
    world.refusing = {}
    later(world, 2)
    assert world.weights() == (90, 10)


def test_pods_are_there_again_though_their_share_cannot_be_taken_back_meanwhile() -> None:
    world = held_back()
    world.refusing = {"HTTPRoute shop": "WriteRefused"}
    del world.canaries["ranker-canary"]
    world.settle()
    assert (world.weights(), world.canary.number) == ((90, 10), 1)


@pytest.mark.parametrize("again", [20, 30])
def test_a_share_whose_end_is_refused_is_not_taken_for_another_clients(again: int) -> None:
    world = baking(bake={"duration": "1h", "holdback": 30})
    later(world, 1)
    world.refusing = {"HTTPRoute shop": "WriteRefused"}
    edit(world, bake={"duration": "1h", "holdback": 10})
    edit(world, bake={"duration": "1h"}, **WARM)
    edit(world, bake={"duration": "1h", "holdback": again})
    assert world.weights() == (70, 30)
    world.refusing = {}
    later(world, 2)
    assert world.weights() == (100 - again, again)
    assert world.condition("ActionRequired").status == "False"


def test_a_route_that_cannot_be_read_as_after_a_restart_interrupts_no_comparison() -> None:
    world = held_back()
    since, noted = rollout_of(world).holdback_seen_at, notes(world)
    world.route_problem = "HTTPRoutes are not listed yet"
    later(world, 1)
    assert (rollout_of(world).holdback_seen_at, noted) == (since, [])
    world.route_problem = ""
    later(world, 2)
    assert (in_bake(world).since, world.weights()) == (since, (90, 10))


def test_the_next_canary_begins_after_the_share_is_back() -> None:
    world = held_back()
    world.months.append("2025-04")
    world.rounds(6)
    assert world.generation(3).status.rollout.step_started_at is None
    assert world.condition("ActionRequired").status == "False"
    assert world.generation(3).status.verdict == "Accepted"
    noted = notes(world)
    world.now = max(rollout_of(world).bake_until, world.now)
    later(world, 3)
    assert [each for each in noted if each[0] != "target"] == [
        ("weights", (100, 0)),
        ("deleted", (100, 0)),
        ("canary", (3, 1)),
        ("weights", (90, 10)),
    ]


def test_a_deleted_update_takes_the_share_back_before_the_pods_go() -> None:
    world = held_back()
    noted = notes(world)
    world._meta(deletion_timestamp=world.now)
    world.settle()
    assert noted == [("weights", (100, 0))]
    world.now += DRAIN
    world.settle()
    assert noted[1:] == [("deleted", (100, 0))]
    assert world.update.metadata.finalizers == ()


def test_a_recreated_update_adopts_its_share() -> None:
    world = held_back()
    uid = world.canary.uid
    world.recreate(cascade=False)
    later(world, 2)
    assert (world.canary.uid, world.weights()) == (uid, (90, 10))


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


def test_the_first_generation_bakes_without_a_holdback() -> None:
    world = with_live(**HELD)
    assert (world.canaries, world.weights()) == ({}, (100, 0))
    world.now += timedelta(hours=1)
    world.settle()
    assert world.generation(1).status.rollout.baked_at


def test_steps_that_are_edited_in_the_bake_change_no_share() -> None:
    world = held_back()
    noted = notes(world)
    edit(world, strategy=gateway(STEPS[:1])["strategy"])
    later(world, 2)
    assert noted == []


@pytest.mark.survives(
    "Operator",
    "is ended between two writes while previous gets its share, keeps it, or loses it",
    "the next decision continues: the same writes in the same order",
)
@pytest.mark.parametrize("verb", ["rollback", "promote"])
def test_a_crash_after_any_write_changes_nothing(verb: str) -> None:
    world = baking()
    noted = notes(world)
    world.finish_canaries()
    for _ in range(6):
        world.crash_after(1)
    world.settle()
    world.ask(f"{verb}.g2@1")
    for _ in range(2):
        world.crash_after(1)
    world.step()  # the answer to the request
    for _ in range(10):
        world.crash_after(1)
        world.finish_rollouts()
    world.settle()
    world.now += DRAIN
    for _ in range(4):
        world.crash_after(1)
    world.settle()
    assert [each for each in noted if each[0] != "target"] == [
        ("weights", (90, 10)),
        ("weights", (100, 0)),
        ("deleted", (100, 0)),
    ]
    assert world.canaries == {}


def given_and_not_recorded() -> World:
    """The operator ended after its patch of the route."""
    world = baking()
    world.finish_canaries()
    for _ in range(9):
        world.crash_after(1)
        if world.weights() == (90, 10):
            break
    assert (world.weights(), route_record(world).weight) == ((90, 10), 0)
    return world


@pytest.mark.survives(
    "Operator",
    "is ended between the patch that gives a share and the record of it, and the bake ends",
    "the weights are the owner's again, though no status says that they were changed",
)
def test_a_share_that_was_written_and_not_recorded_is_taken_back() -> None:
    world = given_and_not_recorded()
    del world.canaries["ranker-canary"]
    edit(world, bake={"duration": "1h"})
    assert world.weights() == (100, 0)


@pytest.mark.survives(
    "Operator",
    "is ended between the patch that gives a share and the record of it, and `holdback` is edited "
    "meanwhile",
    "the share is its own: the edited one follows",
)
@pytest.mark.parametrize("share", [5, 20])
def test_a_share_that_was_written_and_not_recorded_may_be_edited(share: int) -> None:
    world = given_and_not_recorded()
    edit(world, bake={"duration": "1h", "holdback": share})
    later(world, 2)
    assert (world.weights(), route_record(world).weight) == ((100 - share, share), share)
    assert rollout_of(world).holdback_seen_at is not None
    assert world.condition("ActionRequired").status == "False"


def test_a_changed_share_is_on_record_before_a_route_has_it() -> None:
    world = held_back()
    assert rollout_of(world).holdback == 10
    noted: list[tuple[int | None, tuple[int, ...]]] = []
    before = world.on_action

    def note(seen: Any, action: Any) -> None:
        before(seen, action)
        if isinstance(action, SetRouteWeights):
            share = rollout_of(world).holdback
            noted.append((share, tuple(change.after for change in action.changes)))

    world.on_action = note
    edit(world, bake={"duration": "1h", "holdback": 5})
    edit(world, bake={"duration": "1h", "holdback": 20})
    later(world, 2)
    assert noted == [(5, (95, 5)), (20, (80, 20))]
