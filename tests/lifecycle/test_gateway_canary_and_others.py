"""A canary by Gateway whose weights or pods another client changes, or whose pods are lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.canary_scenes import STEPS, begin, later
from lifecycle.gateway_scenes import gateway, rollout_of, route_record, started, with_live
from lifecycle.world import digest

from springtide_operator.lifecycle.state.plan import ApplyCanary, DeleteCanary


@pytest.mark.survives(
    "Routes",
    "another client changes weights of an HTTPRoute during a canary",
    "forward steps hold with FieldConflict and nothing is overwritten; the step starts again "
    "once they are back; a rollback restores the owner's weights",
)
def test_weights_that_another_client_changed_hold_the_step_until_they_are_back() -> None:
    world = started()
    world.weigh(100, 0)
    later(world, 30)
    assert world.weights() == (100, 0), "it is not fought over"
    assert rollout_of(world).step == 1
    assert rollout_of(world).weight_seen_at is None
    assert world.condition("ActionRequired").reason == "FieldConflict"
    message = world.condition("ActionRequired").message
    assert "changed by argocd" in message
    assert "once they are 90 and 10 again" in message
    assert rollout_of(world).rollback_reason == "", "a hold does not reach the deadline"
    world.weigh(90, 10)
    later(world, 1)
    assert rollout_of(world).weight_seen_at == world.now
    later(world, 9)
    assert rollout_of(world).step == 1, "its time starts again"
    later(world, 2)
    assert rollout_of(world).step == 2


def test_a_rollback_restores_the_weights_whoever_changed_them() -> None:
    world = started()
    world.weigh(50, 50)
    later(world, 1)
    assert world.weights() == (50, 50)
    world.ask("rollback.g2@1")
    later(world, 2)
    assert world.weights() == (100, 0)
    assert world.generation(2).status.outcome == "RolledBack"


def test_a_crash_between_the_patch_and_the_status_is_no_change_of_another_client() -> None:
    world = with_live()
    world.endpoints_follow = False
    begin(world)
    world.endpoints_follow = True
    while world.weights() == (100, 0):
        world.crash_after(1)
    assert route_record(world).weight == 0
    world.settle()
    assert rollout_of(world).weight_seen_at == world.now


@pytest.mark.survives(
    "Operator",
    "is ended between the patch of a weight and the record of it, and the step is edited meanwhile",
    "the weight is its own: the step starts again with the edited one",
)
def test_a_weight_that_was_written_and_not_recorded_may_be_edited() -> None:
    world = started(ready=False)
    world.canary_pods_ready = True
    world.finish_canaries()
    for _ in range(9):
        world.crash_after(1)
        if world.weights() == (90, 10):
            break
    assert (world.weights(), route_record(world).weight) == ((90, 10), 0)
    world.edit(rollout=gateway([{"weight": 20, "duration": "10m"}, STEPS[1]]))
    later(world, 2)
    assert (world.weights(), route_record(world).weight) == ((80, 20), 20)
    assert world.condition("ActionRequired").status == "False"


@pytest.mark.survives(
    "Routes",
    "another client edits or deletes the Deployment of a canary that gets requests by Gateway",
    "its weight is 0 until its pods are back, then its step starts again",
)
@pytest.mark.parametrize("how", ["edited", "deleted"])
def test_a_canary_that_another_client_edits_or_deletes_gets_no_requests_until_it_is_back(
    how: str,
) -> None:
    world = started()
    later(world, 1)
    uid, deleted_at = world.canary.uid, []
    world.canary_pods_ready = False

    def note(_: object, action: object) -> None:
        if isinstance(action, DeleteCanary):
            deleted_at.append((world.weights(), world.now))

    world.on_action = note
    if how == "edited":
        world.edit_canary("ranker-canary")
    else:
        del world.canaries["ranker-canary"]
    world.settle()
    assert world.weights() == (100, 0)
    since = world.now
    later(world, 1)
    assert world.canary.uid != uid
    assert [weights for weights, _ in deleted_at] == [(100, 0)] * (how == "edited")
    assert all(at - since >= timedelta(seconds=15) for _, at in deleted_at)
    assert world.weights() == (100, 0)
    world.canary_pods_ready = True
    later(world, 1)
    assert world.weights() == (90, 10)
    assert (rollout_of(world).step, rollout_of(world).weight_seen_at) == (1, world.now)


@pytest.mark.survives(
    "Routes",
    "a canary loses its pods while its step is held: by a paused target, or by the deleted record "
    "of live",
    "the weight returns at once; once nothing holds the step, it starts again",
)
@pytest.mark.parametrize("how", ["crashed", "deleted"])
@pytest.mark.parametrize("held", ["paused", "live deleted"])
def test_a_canary_without_a_ready_pod_gets_no_requests_while_its_step_is_held(
    held: str, how: str
) -> None:
    world = started()
    live = world.generation(1)
    if held == "paused":
        world.target = replace(world.target, paused=True)
    else:
        world.delete_generation("shop-g1")
        world.check.__self__.forget_generation("shop-g1")
    later(world, 1)
    assert world.weights() == (90, 10), "a hold alone changes no weight"
    if how == "crashed":
        world.crash_canaries()
    else:
        del world.canaries["ranker-canary"]
    world.settle()
    assert (world.weights(), route_record(world).weight) == ((100, 0), 0)
    assert rollout_of(world).weight_seen_at is None
    later(world, 30)
    assert rollout_of(world).rollback_reason == ""
    world.canary_pods_ready = True
    world.target = replace(world.target, paused=False)
    world.generations["shop-g1"] = live
    later(world, 3)
    assert (world.weights(), rollout_of(world).step) == ((90, 10), 1)
    assert rollout_of(world).weight_seen_at > world.now - timedelta(minutes=3)


def test_weights_that_another_client_sets_in_a_hold_without_pods_are_left_alone() -> None:
    world = started()
    world.target = replace(world.target, paused=True)
    world.crash_canaries()
    world.settle()
    world.weigh(40, 60)
    later(world, 2)
    assert world.weights() == (40, 60)


def test_pods_of_a_changed_template_get_requests_only_once_they_are_available() -> None:
    world = started()
    applied = []

    def note(_: object, action: object) -> None:
        if isinstance(action, ApplyCanary):
            applied.append((world.weights(), world.now))

    world.on_action = note
    world.target = replace(world.target, template=digest("another image"), changed_by="helm")
    world.settle()
    assert world.weights() == (100, 0)
    since = world.now
    later(world, 1)
    assert {weights for weights, _ in applied} == {(100, 0)}
    assert all(at - since >= timedelta(seconds=15) for _, at in applied)
    assert world.canaries["ranker-canary"].made_from == digest("another image")
    later(world, 1)
    assert world.weights() == (90, 10)
