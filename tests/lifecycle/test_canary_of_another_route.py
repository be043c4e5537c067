"""A canary by Gateway whose record is lost, while the spec names another HTTPRoute by then."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from lifecycle.canary_scenes import later
from lifecycle.gateway_scenes import TARGET, gateway, started

from springtide_api.generation.rollout import RolloutStatus

if TYPE_CHECKING:
    from lifecycle.world import World


def name_another_route(world: World) -> None:
    """The spec names route other, which is at rest; the canary has 10 % by route shop."""
    world.create_route("other")
    world.edit(rollout={**gateway(), "targets": [{**TARGET, "httpRoute": "other"}]})


def delete_record(world: World) -> None:
    world.check.__self__.forget_generation("shop-g2")
    world.delete_generation("shop-g2")


def edit_record(world: World, rollout: RolloutStatus) -> None:
    """A user with rights on the status replaces the record of the rollout."""
    generation = world.generation(2)
    status = generation.status.model_copy(update={"rollout": rollout})
    world.generations["shop-g2"] = generation.model_copy(update={"status": status})


@pytest.mark.survives(
    "People",
    "the record of a canary by Gateway is deleted, and the spec names another HTTPRoute by then",
    "the canary's Deployment names its route: it gets weight 0 there, then its pods go",
)
@pytest.mark.parametrize("lost", ["generation", "rollout"])
def test_a_canary_without_a_record_loses_its_requests_on_its_own_route_not_on_the_specs(
    lost: str,
) -> None:
    world = started()
    assert world.weights() == (90, 10)
    name_another_route(world)
    world.pin(1)  # the next rollout does not begin
    if lost == "generation":
        delete_record(world)
    else:
        edit_record(world, RolloutStatus())
    world.settle()
    assert (world.weights(), world.weights("other")) == ((100, 0), (100, 0))
    assert world.canaries, "the gateway may not have followed yet"
    later(world, 1)
    assert not world.canaries
    assert world.update.metadata.finalizers == ()


def test_the_next_canary_runs_by_the_route_of_the_spec_once_that_without_a_record_is_gone() -> None:
    world = started()
    first = world.canary.uid
    name_another_route(world)
    edit_record(world, RolloutStatus())
    later(world, 4)
    assert world.canary.uid != first
    assert (world.weights(), world.weights("other")) == ((100, 0), (90, 10))
    later(world, 40)
    assert (world.weights(), world.weights("other")) == ((100, 0), (100, 0))
    assert world.generation(2).status.outcome == "Live"


def test_a_canary_whose_recorded_targets_are_deleted_continues_by_its_own_route() -> None:
    world = started()
    name_another_route(world)
    kept = world.generation(2).status.rollout.model_copy(update={"targets": []})
    edit_record(world, kept)
    later(world, 2)
    assert (world.weights(), world.weights("other")) == ((90, 10), (100, 0))
    later(world, 40)
    assert (world.weights(), world.weights("other")) == ((100, 0), (100, 0))
    assert world.generation(2).status.outcome == "Live"


def test_a_deleted_update_takes_the_requests_of_a_canary_without_a_record_on_its_own_route() -> (
    None
):
    world = started()
    name_another_route(world)
    delete_record(world)
    world._meta(deletion_timestamp=world.now)
    world.settle()
    assert world.weights() == (100, 0)
    assert world.canaries
    later(world, 1)
    assert not world.canaries
    assert world.update.metadata.finalizers == ()


def test_a_rollback_takes_the_requests_of_a_canary_whose_recorded_targets_are_deleted() -> None:
    world = started()
    world.target = replace(world.target, paused=True)
    later(world, 1)
    kept = world.generation(2).status.rollout.model_copy(update={"targets": []})
    edit_record(world, kept)
    world.settle()
    assert world.weights() == (90, 10)
    world.target = replace(world.target, paused=False)
    world.ask("rollback.g2@1")
    world.settle()
    assert world.weights() == (100, 0)
    assert world.canaries, "the gateway may not have followed yet"
    later(world, 1)
    assert not world.canaries
    assert world.generation(2).status.outcome == "RolledBack"
