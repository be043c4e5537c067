"""In a bake the previous generation keeps a share of the requests: from when, and until when."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from lifecycle.canary_scenes import STEPS, later
from lifecycle.gateway_scenes import TARGET, gateway, rollout_of, route_record, with_live
from lifecycle.holdback_scenes import DRAIN, HELD, WARM, baking, edit, held_back
from lifecycle.warm_scenes import notes


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
