"""Pods of the share of a holdback: how many, warm ones, lost ones, and the sizes of targets."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.canary_scenes import begin, later
from lifecycle.gateway_scenes import TARGET, rollout_of, with_live
from lifecycle.holdback_scenes import GOOD, HELD, WARM, baking, edit, held_back, in_bake
from lifecycle.warm_scenes import notes
from lifecycle.world import digest


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


def test_pods_are_there_again_though_their_share_cannot_be_taken_back_meanwhile() -> None:
    world = held_back()
    world.refusing = {"HTTPRoute shop": "WriteRefused"}
    del world.canaries["ranker-canary"]
    world.settle()
    assert (world.weights(), world.canary.number) == ((90, 10), 1)
