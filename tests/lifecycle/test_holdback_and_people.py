"""Requests, pins and deletions by users take the share of a holdback back, then its pods go."""

from __future__ import annotations

from datetime import timedelta

import pytest
from lifecycle.canary_scenes import later
from lifecycle.gateway_scenes import TARGET, rollout_of
from lifecycle.holdback_scenes import DRAIN, edit, fail_live, held_back, in_bake
from lifecycle.warm_scenes import notes


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
