"""Warm pods, and what other clients do to them, their route, their Services and their target."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.canary_scenes import later
from lifecycle.gateway_scenes import TARGET, gateway, rollout_of
from lifecycle.warm_scenes import WARM, ask_for_a_rollback, baking, notes, warm
from lifecycle.world import digest

from springtide_operator.lifecycle.traffic.withdrawal import DRAIN


def test_the_requests_of_a_target_that_another_update_serves_meanwhile_are_left_alone() -> None:
    world = warm()
    world.target = replace(world.target, claimed_by="other")
    later(world, 1)
    assert world.canaries == {}
    ask_for_a_rollback(world)
    later(world, 1)
    assert world.generation(2).status.outcome == "RolledBack"
    assert (world.weights(), world.target.number) == ((100, 0), 2)


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
    "at its end the weight becomes 0, and the pods are deleted 15 s later",
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
