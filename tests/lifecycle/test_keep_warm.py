"""Pods of the previous generation are kept warm in a bake; a rollback is one write of the route."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from lifecycle.test_canary import STEPS, later
from lifecycle.test_gateway_canary import (
    TARGET,
    begin,
    gateway,
    rollout_of,
    route_record,
    with_live,
)
from lifecycle.world import World, digest

from springtide_operator.lifecycle.routes.actions import SetRouteWeights
from springtide_operator.lifecycle.state.plan import ApplyCanary, DeleteCanary, Serve
from springtide_operator.lifecycle.steps.withdrawal import DRAIN

WARM: dict[str, Any] = {"bake": {"duration": "1h"}, "rollback": {"keepWarm": True}}
QUOTA = "quota exceeded: pods: 18"


def baking(**rollout: Any) -> World:
    """Generation 2 was promoted a moment ago and bakes; the canary is not applied again yet."""
    world = with_live(**{**WARM, **rollout})
    world.now += timedelta(hours=1)
    world.settle()
    begin(world)
    for _ in range(60):
        if rollout_of(world).promoted_at:
            break
        world.now += timedelta(minutes=1)
        world.finish_rollouts()
        world.settle()
    assert world.generation(2).status.outcome == "Live"
    return world


def warm(**rollout: Any) -> World:
    """Generation 2 bakes, and nine pods of generation 1 are warm."""
    world = baking(**rollout)
    world.finish_canaries()
    world.settle()
    return world


def notes(world: World) -> list[tuple[str, Any]]:
    """Note writes that concern the requests, in order."""
    noted: list[tuple[str, Any]] = []

    def note(_: object, action: object) -> None:
        if isinstance(action, SetRouteWeights):
            noted.append(("weights", tuple(each.after for each in action.changes)))
        elif isinstance(action, Serve) and action.serving:
            noted.append(("target", action.serving.number))
        elif isinstance(action, DeleteCanary):
            noted.append(("deleted", world.weights()))
        elif isinstance(action, ApplyCanary):
            noted.append(("canary", (action.serving.number, action.replicas)))

    before = world.on_action

    def both(seen: Any, action: Any) -> None:
        before(seen, action)
        note(seen, action)

    world.on_action = both
    return noted


def ask_for_a_rollback(world: World, *, ready: bool = False) -> None:
    world.pods_ready = ready
    world.ask("rollback.g2@bad")
    world.settle()


def test_after_the_promotion_the_canary_runs_as_many_pods_of_the_previous_generation() -> None:
    world = warm()
    assert (world.canary.number, world.canary.desired) == (1, 9)
    assert world.canary.digest == world.generation(1).status.artifact.served_digest
    assert world.weights() == (100, 0)
    assert world.target.number == 2
    assert "KeptWarm" in world.events
    assert world.update.status.phase == "Baking"
    assert "pods of shop-g1 are kept warm" in world.update.status.progress.waiting_for
    assert world.condition("ActionRequired").status == "False"


@pytest.mark.survives(
    "Routes",
    "a generation that bakes is rolled back, and pods of the previous one are kept warm",
    "one write of the route gives them all requests; the weight returns once the target runs the "
    "previous generation, and then they go",
)
def test_a_rollback_is_one_write_of_the_route_then_the_usual_one() -> None:
    world = warm()
    noted = notes(world)
    ask_for_a_rollback(world)
    assert noted == [("weights", (0, 100)), ("target", 1)]
    assert world.weights() == (0, 100)
    assert route_record(world).weight == 100
    assert route_record(world).shifted_at == world.now
    assert "TrafficShifted" in world.events
    serving = world.condition("Serving")
    assert (serving.status, serving.reason) == ("True", "RollingBack")
    assert world.update.status.progress.summary == "on warm pods"

    later(world, 30)
    assert world.weights() == (0, 100), "the target is not available yet"
    assert rollout_of(world).rolled_back_at is None
    world.pods_ready = True
    world.finish_rollouts()
    world.settle()
    assert world.weights() == (100, 0)
    assert world.canaries, "its pods stay until the gateway has followed"
    later(world, 1)
    assert noted == [
        ("weights", (0, 100)),
        ("target", 1),
        ("weights", (100, 0)),
        ("deleted", (100, 0)),
    ]
    assert world.generation(2).status.outcome == "RolledBack"
    assert world.update.status.live.number == 1


def test_metrics_show_how_many_pods_are_kept_warm_and_how_many_are_lacking() -> None:
    def counted(world: World) -> tuple[int, int]:
        return world.plan.warm_pods, world.plan.warm_pods_missing

    world = baking()
    assert counted(world) == (0, 9)
    world.change_canary("ranker-canary", available=4)
    world.canary_pods_ready = False
    world.settle()
    assert counted(world) == (4, 5)
    world.canary_pods_ready = True
    world.finish_canaries()
    world.settle()
    assert counted(world) == (9, 0)
    ask_for_a_rollback(world)
    assert counted(world) == (9, 0), "they serve"
    world.pods_ready = True
    later(world, 2)
    assert counted(world) == (0, 0)


def test_pods_that_fail_the_bake_are_rolled_back_in_the_same_way() -> None:
    world = warm()
    world.crash_a_pod()
    for _ in range(11):
        world.now += timedelta(minutes=1)
        world.settle()
    assert "longer than 10m" in rollout_of(world).rollback_reason
    assert world.weights() == (0, 100)


def test_after_the_bake_warm_pods_are_deleted_and_the_route_is_not_written() -> None:
    world = warm()
    noted = notes(world)
    world.now = rollout_of(world).bake_until
    world.settle()
    assert noted == [("deleted", (100, 0))]
    assert not world.canaries
    assert world.update.metadata.finalizers == ()
    assert rollout_of(world).baked_at == world.now


def test_promote_ends_the_bake_and_with_it_the_warm_pods() -> None:
    world = warm()
    world.ask("promote.g2@good")
    world.settle()
    assert not world.canaries


def test_warm_pods_are_rescaled_with_the_target() -> None:
    world = warm()
    for desired in (20, 4):
        world.target = replace(world.target, desired=desired)
        world.settle()
        assert world.canary.desired == desired


def test_requests_move_once_as_many_pods_are_ready_as_the_target_has_available() -> None:
    world = warm()
    world.target = replace(world.target, desired=20, updated=20)
    world.settle()
    assert (world.canary.desired, world.canary.available, world.target.available) == (20, 9, 9)
    world.pods_ready = False
    world.ask("rollback.g2@bad")
    while not rollout_of(world).rollback_reason:
        world.step()
    world.step()
    assert world.weights() == (0, 100), "eleven pods of each only start"


@pytest.mark.survives(
    "Routes",
    "warm pods are not ready when the rollback is decided",
    "the usual rolling update begins; requests move to them if they get ready before it ends",
)
def test_pods_that_get_ready_during_the_rollback_are_used() -> None:
    world = warm()
    world.change_canary("ranker-canary", available=3)
    noted = notes(world)
    world.target = replace(world.target, available=9)
    world.ask("rollback.g2@bad")
    world.pods_ready = world.canary_pods_ready = False
    while not noted:
        world.step()
    assert noted == [("target", 1)], "it is not waited for them"
    world.canary_pods_ready = True
    world.finish_canaries()
    world.settle()
    assert noted == [("target", 1), ("weights", (0, 100))]


def test_pods_that_cannot_get_ready_are_deleted_when_the_rollback_begins() -> None:
    world = baking()
    world.canary_pods_ready = False
    world.change_canary("ranker-canary", available=3, trouble=QUOTA)
    noted = notes(world)
    world.target = replace(world.target, available=9)
    ask_for_a_rollback(world)
    assert noted == [("deleted", (100, 0)), ("target", 1)], "they take no room from the target's"
    world.pods_ready = True
    later(world, 1)
    assert world.generation(2).status.outcome == "RolledBack"
    assert noted == [("deleted", (100, 0)), ("target", 1)]


def test_pods_that_are_no_endpoints_get_no_requests() -> None:
    world = warm()
    world.endpoints_follow = False
    ask_for_a_rollback(world)
    assert (world.weights(), world.target.number) == ((100, 0), 1)
    assert world.plan.wake_after <= timedelta(seconds=1)
    world.endpoints_follow = True
    world.now += timedelta(seconds=1)
    world.settle()
    assert world.weights() == (0, 100)


@pytest.mark.survives(
    "Routes",
    "warm pods that have the requests crash, or are deleted or edited, before the target is back",
    "the weight returns at once, and the rolling update goes on without them",
)
@pytest.mark.parametrize("how", ["crashed", "deleted", "edited"])
def test_warm_pods_that_are_lost_during_the_rollback_lose_the_requests(how: str) -> None:
    world = warm()
    ask_for_a_rollback(world)
    assert world.weights() == (0, 100)
    if how == "crashed":
        world.crash_canaries()
    elif how == "deleted":
        del world.canaries["ranker-canary"]
    else:
        world.edit_canary("ranker-canary")
    world.settle()
    assert world.weights() == (100, 0)
    later(world, 1)
    assert not world.canaries
    assert world.weights() == (100, 0), "once is enough"
    world.pods_ready = True
    later(world, 1)
    assert world.generation(2).status.outcome == "RolledBack"


def test_a_pod_less_keeps_the_requests_where_they_are() -> None:
    world = warm()
    ask_for_a_rollback(world)
    world.change_canary("ranker-canary", available=1)
    world.settle()
    assert world.weights() == (0, 100)


@pytest.mark.survives(
    "Routes",
    "a quota or admission refuses warm pods, or the write of their Deployment",
    "the bake ends in its time and runs go on; ActionRequired has the refusal; a rollback is the "
    "rolling update",
)
@pytest.mark.parametrize("what", ["pods", "Deployment", "finalizer"])
def test_refused_warm_pods_hold_nothing_else_up(what: str) -> None:
    world = baking()
    if what == "pods":
        world.canary_pods_ready = False
        trouble = {"available": 0, "trouble": QUOTA, "stalled": "it exceeded its deadline"}
        world.change_canary("ranker-canary", **trouble)
    else:
        del world.canaries["ranker-canary"]
        world._meta(finalizers=() if what == "finalizer" else world.update.metadata.finalizers)
        refused = "finalizer" if what == "finalizer" else "Deployment ranker-canary"
        world.refusing = {refused: "WriteRefused"}
    world.settle()
    found = world.condition("ActionRequired")
    assert found.reason == ("NotKeptWarm" if what == "pods" else "WriteRefused")
    assert "quota" in found.message
    if what == "pods":
        assert world.condition("Stalled") is None
        assert "Deployment ranker-canary: not all of 9 pods of shop-g1 are" in found.message
    world.months.append("2025-04")
    world.rounds(6)
    assert world.generation(3).status.verdict == "Accepted"
    world.now = rollout_of(world).bake_until
    world.settle()
    assert rollout_of(world).baked_at == world.now


def test_a_rollback_with_a_refused_patch_is_the_rolling_update() -> None:
    world = warm()
    world.refusing = {"HTTPRoute shop": "PatchRefused"}
    world.ask("rollback.g2@bad")
    later(world, 1)
    assert world.target.number == 1
    assert world.weights() == (100, 0)
    later(world, 2)
    assert world.generation(2).status.outcome == "RolledBack"
    assert not world.canaries


def test_a_rollback_of_a_target_that_was_scaled_to_0_in_the_bake_is_over_without_requests() -> None:
    world = warm()
    world.target = replace(world.target, desired=0, available=0, updated=0)
    world.settle()
    assert world.canary.desired == 0
    ask_for_a_rollback(world)
    later(world, 1)
    assert world.generation(2).status.outcome == "RolledBack"
    assert (world.weights(), world.target.number, world.canaries) == ((100, 0), 1, {})


def test_pods_that_cannot_get_the_requests_do_not_hold_a_rollback_that_makes_no_progress() -> None:
    world = warm()
    world.refusing = {"HTTPRoute shop": "PatchRefused"}
    ask_for_a_rollback(world)
    later(world, 8)
    world.target = replace(world.target, stalled="its pods exceed the quota")
    world.settle()
    assert world.canaries, "the patch may be accepted until the deadline"
    later(world, 14)
    assert world.canaries == {}, "their room may be what the target lacks"
    assert world.generation(2).status.outcome == "RolledBack"


def test_the_requests_of_a_target_that_another_update_serves_meanwhile_are_left_alone() -> None:
    world = warm()
    world.target = replace(world.target, claimed_by="other")
    later(world, 1)
    assert world.canaries == {}
    ask_for_a_rollback(world)
    later(world, 1)
    assert world.generation(2).status.outcome == "RolledBack"
    assert (world.weights(), world.target.number) == ((100, 0), 2)


def test_a_target_that_another_update_takes_in_the_rollback_gets_its_requests_back() -> None:
    world = warm()
    ask_for_a_rollback(world)
    assert world.weights() == (0, 100)
    world.target = replace(world.target, claimed_by="other", available=9)
    later(world, 2)
    assert (world.weights(), world.canaries) == ((100, 0), {})
    assert world.generation(2).status.outcome == "RolledBack"


def test_a_target_that_is_renamed_in_the_bake_needs_a_service_of_the_canary_that_selects_it() -> (
    None
):
    world = warm()
    declared = {**TARGET, "targetRef": {"name": "ranker2"}}
    world.create_target_of({"targetRef": {"name": "ranker2"}, "container": "server"}, desired=3)
    world.edit(rollout={**gateway(), **WARM, "targets": [declared]})
    later(world, 2)
    found = world.condition("ActionRequired")
    assert found.reason == "ServiceOutdated"
    assert "selects springtide.dev/canary=ranker-canary" in found.message
    del world.services["ranker-canary"]
    later(world, 2)
    assert world.condition("ActionRequired").status == "False"
    assert [*world.canaries] == ["ranker2-canary"]
    ask_for_a_rollback(world)
    later(world, 2)
    assert world.weights() == (0, 100), "the name before does not take them back"
    world.pods_ready = True
    later(world, 2)
    assert (world.weights(), world.canaries) == ((100, 0), {})
    assert world.generation(2).status.outcome == "RolledBack"


def test_without_a_generation_to_return_to_nothing_is_kept() -> None:
    world = with_live(**WARM)
    assert world.update.status.phase == "Baking"
    assert not world.canaries
    assert world.update.metadata.finalizers == ()


@pytest.mark.parametrize("how", ["keepWarm", "strategy", "bake", "mode", "route"])
def test_what_the_spec_no_longer_asks_for_is_deleted_with_weight_0(how: str) -> None:
    world = warm()
    noted = notes(world)
    rollout = {**gateway(), **WARM}
    if how == "keepWarm":
        world.edit(rollout={**rollout, "rollback": {}})
    elif how == "strategy":
        kept = {k: v for k, v in TARGET.items() if k not in {"service", "httpRoute"}}
        world.edit(rollout={"targets": [kept], "bake": {"duration": "1h"}})
    elif how == "bake":
        world.edit(rollout=gateway())
    elif how == "mode":
        world.edit(mode="Observe")
    else:
        world.create_route("other")
        world.edit(rollout={**rollout, "targets": [{**TARGET, "httpRoute": "other"}]})
    world.settle()
    assert noted == [("deleted", (100, 0))]
    assert world.target.number == 2


def test_keep_warm_that_is_switched_on_in_a_bake_counts_at_once() -> None:
    world = baking(rollback={})
    assert not world.canaries
    world.edit(rollout={**gateway(), **WARM})
    world.settle()
    assert world.canary.number == 1


def test_steps_that_are_edited_in_the_bake_change_no_warm_pod() -> None:
    world = warm()
    noted = notes(world)
    world.edit(rollout={**gateway(STEPS[:1]), **WARM})
    later(world, 2)
    assert noted == []


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize("minutes", [0, 2])
def test_a_pin_deletes_warm_pods_and_they_come_back_with_the_bake(
    number: int, minutes: int
) -> None:
    world = warm()
    world.pin(number)
    world.settle()
    later(world, minutes)
    assert (world.canaries, world.target.number) == ({}, number)
    world.pin(None)
    later(world, 3)
    assert world.target.number == 2
    assert (world.canary.number, world.canary.desired) == (1, 9)
    ask_for_a_rollback(world)
    assert world.weights() == (0, 100)


def test_a_pin_in_the_rollback_leaves_the_requests_until_the_target_runs_what_is_pinned() -> None:
    world = warm()
    ask_for_a_rollback(world)
    world.pin(1)
    later(world, 2)
    assert world.weights() == (0, 100)
    world.pods_ready = True
    later(world, 2)
    assert (world.weights(), world.target.number, world.canaries) == ((100, 0), 1, {})


def test_a_suspended_update_keeps_its_pods_warm_and_rolls_back() -> None:
    world = warm()
    world.edit(suspend=True)
    later(world, 2)
    assert world.canary.number == 1
    ask_for_a_rollback(world)
    assert world.weights() == (0, 100)


def test_a_rollback_that_freezes_the_update_is_not_held_by_it() -> None:
    world = warm(rollback={"keepWarm": True, "freezeAfter": 1})
    ask_for_a_rollback(world)
    assert world.weights() == (0, 100)
    world.pods_ready = True
    later(world, 2)
    assert world.update.status.phase == "Frozen"
    assert not world.canaries


@pytest.mark.survives(
    "Routes",
    "an update is deleted while warm pods are kept, or have the requests",
    "in the bake they are deleted; in a rollback the targets return first, then the weight",
)
def test_a_deleted_update_leaves_no_warm_pod() -> None:
    world = warm()
    noted = notes(world)
    world._meta(deletion_timestamp=world.now)
    world.settle()
    assert noted == [("deleted", (100, 0))]
    assert world.update.metadata.finalizers == ()
    assert world.target.number == 2


@pytest.mark.parametrize("ready", [True, False])
def test_an_update_that_is_deleted_in_the_rollback_lets_the_targets_return_first(
    ready: bool,
) -> None:
    world = warm()
    noted = notes(world)
    ask_for_a_rollback(world)
    world._meta(deletion_timestamp=world.now)
    later(world, 5)
    assert (world.weights(), world.target.number) == ((0, 100), 1)
    world.pods_ready = ready
    later(world, 1 if ready else 6)
    later(world, 1)
    assert noted[2:] == [("weights", (100, 0)), ("deleted", (100, 0))]
    assert world.update.metadata.finalizers == ()


def test_a_target_that_makes_no_progress_keeps_the_requests_on_warm_pods() -> None:
    world = warm()
    ask_for_a_rollback(world)
    world.target = replace(world.target, stalled="its pods exceed the quota")
    later(world, 30)
    assert world.weights() == (0, 100)
    assert world.condition("ActionRequired").reason == "RollingBack"
    assert "makes no progress (its pods exceed" in world.condition("ActionRequired").message


@pytest.mark.parametrize("how", ["deleted", "scaled to 0", "paused"])
def test_a_target_that_cannot_serve_keeps_the_requests_on_warm_pods(how: str) -> None:
    world = warm()
    ask_for_a_rollback(world)
    if how == "deleted":
        world.target = replace(world.target, uid="", available=0)
    elif how == "scaled to 0":
        world.target = replace(world.target, desired=0, available=0)
    else:
        world.target = replace(world.target, paused=True)
    later(world, 30)
    assert world.weights() == (0, 100)
    assert rollout_of(world).rolled_back_at is None
    assert world.condition("ActionRequired").status == "True"


def test_the_next_canary_begins_without_the_warm_pods() -> None:
    world = warm()
    world.months.append("2025-04")
    world.rounds(6)
    assert world.generation(3).status.rollout.step_started_at is None
    noted = notes(world)
    world.now = rollout_of(world).bake_until
    world.settle()
    world.finish_rollouts()
    world.settle()
    assert noted == [("deleted", (100, 0)), ("canary", (3, 1)), ("weights", (90, 10))]


def test_the_next_canary_waits_for_warm_pods_whose_deletion_is_refused() -> None:
    world = warm()
    world.months.append("2025-04")
    world.rounds(6)
    world.refusing = {"deletion of Deployment ranker-canary": "WriteRefused"}
    world.now = rollout_of(world).bake_until
    later(world, 3)
    assert world.generation(3).status.rollout.step_started_at is None
    assert world.condition("ActionRequired").reason == "WriteRefused"
    world.refusing = {}
    later(world, 2)
    assert world.canary.number == 3


@pytest.mark.parametrize("kind", ["unfinished", "finished"])
def test_a_change_of_the_targets_owner_reaches_warm_pods_once_it_is_finished(kind: str) -> None:
    world = warm()
    made_from = world.canaries["ranker-canary"].made_from
    world.pods_ready = False
    world.target = replace(
        world.target, template=digest("another image"), changed_by="helm", available=5
    )
    world.settle()
    assert world.canaries["ranker-canary"].made_from == made_from
    if kind == "finished":
        world.pods_ready = True
        later(world, 1)
        assert world.canaries["ranker-canary"].made_from == digest("another image")
        return
    ask_for_a_rollback(world)
    assert world.weights() == (0, 100), "they run what worked before the change"


def test_weights_that_their_owner_changed_in_the_bake_are_what_a_rollback_restores() -> None:
    world = warm()
    world.weigh(1000, 0)
    later(world, 1)
    ask_for_a_rollback(world)
    assert world.weights() == (0, 1000)
    world.pods_ready = True
    later(world, 2)
    assert world.weights() == (1000, 0)


def test_a_route_that_leads_to_warm_pods_is_reported_and_not_fought_over() -> None:
    world = warm()
    world.weigh(60, 40)
    later(world, 1)
    assert world.weights() == (60, 40)
    assert world.condition("ActionRequired").reason == "RouteNotAtRest"
    assert world.condition("Stalled") is None
    noted = notes(world)
    world.now = rollout_of(world).bake_until
    world.settle()
    assert noted == [("weights", (100, 0))]
    assert world.plan.wake_after <= DRAIN
    later(world, 1)
    assert noted == [("weights", (100, 0)), ("deleted", (100, 0))], "once the gateway has followed"


@pytest.mark.survives(
    "Routes",
    "another client gives warm pods weight in the bake",
    "at its end the weight goes back first, and the pods once the gateway has followed, 15 s later",
)
@pytest.mark.parametrize("how", ["the bake ends", "keepWarm is removed", "the update is deleted"])
def test_warm_pods_that_another_client_gave_weight_are_deleted_after_the_gateway_has_followed(
    how: str,
) -> None:
    world = warm()
    world.weigh(60, 40)
    later(world, 1)
    noted, since = notes(world), world.now
    if how == "the bake ends":
        since = world.now = rollout_of(world).bake_until
    elif how == "keepWarm is removed":
        world.edit(rollout={**gateway(), **WARM, "rollback": {}})
    else:
        world._meta(deletion_timestamp=world.now)
    world.settle()
    assert (noted, [*world.canaries]) == ([("weights", (100, 0))], ["ranker-canary"])
    world.now = since + DRAIN - timedelta(seconds=1)
    world.settle()
    assert world.canaries
    world.now = since + DRAIN
    world.settle()
    assert noted == [("weights", (100, 0)), ("deleted", (100, 0))]
    assert world.update.metadata.finalizers == ()


def test_warm_pods_stay_while_it_is_not_known_whether_they_have_requests() -> None:
    """As after a restart, before the routes are listed: the record may be older than the weight."""
    world = warm()
    world.weigh(60, 40)
    world.route_problem = "HTTPRoutes are not listed yet"
    world.now = rollout_of(world).bake_until
    later(world, 2)
    assert [*world.canaries] == ["ranker-canary"]
    world.route_problem = ""
    later(world, 2)
    assert (world.weights(), world.canaries) == ((100, 0), {})


def test_weights_that_another_client_sets_back_in_the_rollback_are_reported_and_left() -> None:
    world = warm()
    noted = notes(world)
    ask_for_a_rollback(world)
    world.weigh(100, 0)
    later(world, 5)
    assert noted == [("weights", (0, 100)), ("target", 1)]
    found = world.condition("ActionRequired")
    assert found.reason == "FieldConflict"
    assert "changed by argocd; they were 0 and 100 for the rollback" in found.message
    world.pods_ready = True
    later(world, 2)
    assert world.generation(2).status.outcome == "RolledBack"
    assert (world.weights(), world.canaries) == ((100, 0), {})


def test_an_edited_warm_canary_is_created_again_at_most_every_30_seconds() -> None:
    world = warm()
    noted = notes(world)
    world.now += timedelta(minutes=1)
    world.edit_canary("ranker-canary")
    world.settle()
    assert noted == [("deleted", (100, 0)), ("canary", (1, 9))]
    world.edit_canary("ranker-canary")
    world.settle()
    assert len(noted) == 2
    assert world.condition("ActionRequired").reason == "FieldConflict"
    assert world.plan.wake_after <= timedelta(seconds=30)
    world.now += timedelta(seconds=31)
    world.settle()
    assert noted[2:] == [("deleted", (100, 0)), ("canary", (1, 9))]


def test_a_deployment_of_a_user_with_the_name_of_the_canary_is_left_alone() -> None:
    world = baking(rollback={})
    world.take_canary_name()
    world.edit(rollout={**gateway(), **WARM})
    world.settle()
    assert world.condition("ActionRequired").reason == "NameCollision"
    ask_for_a_rollback(world, ready=True)
    assert world.weights() == (100, 0)
    assert not world.canaries["ranker-canary"].ours


def test_a_service_with_other_ports_than_the_owners_gets_no_requests() -> None:
    world = warm()
    world.services["ranker"] = replace(world.services["ranker"], ports=("8080/TCP to 8080",))
    world.settle()
    assert world.condition("ActionRequired").reason == "ServiceOutdated"
    ask_for_a_rollback(world)
    assert (world.weights(), world.target.number) == ((100, 0), 1)


@pytest.mark.survives(
    "Operator",
    "is ended between two writes while pods are kept warm, or get the requests",
    "the next decision continues: the same writes in the same order",
)
def test_a_crash_after_any_write_of_the_rollback_changes_nothing() -> None:
    world = warm()
    noted = notes(world)
    world.pods_ready = False
    world.ask("rollback.g2@bad")
    for _ in range(8):
        world.crash_after(1)
    world.settle()
    assert noted[:1] == [("weights", (0, 100))]
    assert route_record(world).shifted_at is not None
    world.pods_ready = True
    world.finish_rollouts()
    for _ in range(8):
        world.crash_after(1)
    later(world, 1)
    assert [each for each in noted if each[0] != "target"] == [
        ("weights", (0, 100)),
        ("weights", (100, 0)),
        ("deleted", (100, 0)),
    ]
    assert world.generation(2).status.outcome == "RolledBack"


def test_several_targets_move_each_as_its_own_pods_are_ready() -> None:
    world = baking()
    other = {**TARGET, "targetRef": {"name": "reranker"}, "service": "re", "httpRoute": "re"}
    world.create_route("re", re=1000, re_canary=0)
    world.create_target_of({"targetRef": {"name": "reranker"}, "container": "server"}, desired=3)
    world.edit(rollout={**gateway(), **WARM, "targets": [TARGET, other]})
    later(world, 2)
    assert world.canaries["reranker-canary"].deployment.desired == 3
    world.change_canary("reranker-canary", available=0)
    world.canary_pods_ready = False
    ask_for_a_rollback(world)
    assert (world.weights(), world.weights("re")) == ((0, 100), (1000, 0))
    world.canary_pods_ready = True
    world.finish_canaries()
    world.settle()
    assert world.weights("re") == (0, 1000)
    world.pods_ready = True
    later(world, 2)
    assert (world.weights(), world.weights("re"), world.canaries) == ((100, 0), (1000, 0), {})


def test_a_recreated_update_adopts_its_warm_pods() -> None:
    world = warm()
    uid = world.canary.uid
    world.recreate(cascade=False)
    later(world, 2)
    assert world.canary.uid == uid
    ask_for_a_rollback(world)
    assert world.weights() == (0, 100)
