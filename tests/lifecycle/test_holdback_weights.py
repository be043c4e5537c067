"""Weights of a holdback: who else writes them, refused patches, and an end between two writes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from lifecycle.canary_scenes import begin, later
from lifecycle.gateway_scenes import gateway, rollout_of, route_record, with_live
from lifecycle.holdback_scenes import DRAIN, HELD, WARM, baking, edit, held_back
from lifecycle.warm_scenes import notes

from springtide_operator.lifecycle.routes.actions import SetRouteWeights

if TYPE_CHECKING:
    from lifecycle.world import World


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
