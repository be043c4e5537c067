"""The record of what the targets serve is deleted, or no generation is live: what users read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from lifecycle.invariants import Invariants
from lifecycle.world import World, after_promotions, digest, with_generation_one

if TYPE_CHECKING:
    from springtide_api.objects import ModelGeneration

COMMAND = "kubectl set env deployment/ranker --containers=server MODEL_URI- MODEL_DIGEST-"


def delete(world: World, number: int) -> ModelGeneration:
    """Delete the record of a generation; return what a backup has."""
    kept = world.generation(number)
    world.delete_generation(kept.metadata.name)
    world.settle()
    return kept


def hand_over(world: World) -> None:
    """Do what the message says: remove both variables."""
    world.target = replace(world.target, digest=None, number=None, uri=None, foreign_manager="")


def message(world: World, kind: str = "ActionRequired") -> str:
    found = world.condition(kind)
    assert found is not None
    return found.message


@pytest.mark.survives(
    "People",
    "the record of the live generation is deleted, and no earlier one is left",
    "the targets keep what they serve; `Serving` and `ActionRequired` say so, and the two ways out",
)
@pytest.mark.parametrize("way", ["restored", "handed over"])
def test_the_deleted_record_of_what_is_served_is_named_with_both_ways_out(way: str) -> None:
    world = with_generation_one()
    served = world.target.digest
    kept = delete(world, 1)
    said = (
        "Deployment ranker runs shop-g1, and that ModelGeneration was deleted; restore it from a "
        f"backup, or remove both variables ({COMMAND}), and the next generation that rolls out "
        "sets them"
    )
    assert [message(world, kind) for kind in ("Serving", "ActionRequired")] == [said, said]
    assert message(world, "Ready") == f"the spec is valid; {said}"
    reasons = {kind: world.condition(kind).reason for kind in ("Serving", "Ready")}
    assert reasons == {"Serving": "NoLiveGeneration", "Ready": "NoLiveGeneration"}
    world.rounds(6)
    assert (world.target.number, world.target.digest) == (1, served)
    if way == "restored":
        world.generations["shop-g1"] = kept
    else:
        hand_over(world)
    world.rounds(6)
    assert world.condition("Serving").status == "True"
    assert world.condition("ActionRequired").status == "False"
    assert world.update.status.live.number == world.target.number


def test_where_an_earlier_generation_is_left_the_message_names_it_and_it_is_applied() -> None:
    world = after_promotions(2)
    delete(world, 2)
    assert message(world) == (
        "Deployment ranker runs shop-g2, and that ModelGeneration was deleted; restore it from a "
        f"backup, or remove both variables ({COMMAND}), and those of shop-g1 are applied again"
    )
    hand_over(world)
    world.rounds(1)
    assert world.target.number == 1


def test_without_the_record_and_the_variables_it_is_not_said_that_nothing_was_promoted() -> None:
    world = with_generation_one()
    delete(world, 1)
    hand_over(world)
    world.months = []
    world.settle()
    said = "no generation that was promoted is left; restore it from a backup, or wait for a run"
    assert message(world, "Serving") == said


def test_a_generation_that_is_rolled_back_to_nothing_is_named() -> None:
    world = after_promotions(2)
    world.pods_ready = False
    world.ask("rollback.g2@bad")
    while not world.generation(2).status.rollout.rollback_reason:
        world.step()
    delete(world, 1)
    said = "shop-g2 is rolled back, and no earlier generation is left; the targets keep it"
    assert message(world, "Serving") == said
    assert world.condition("ActionRequired").reason == "NothingToReturnTo"


def rolled_back_first(**theirs: object) -> World:
    """The first generation is rolled back, and another client has set a variable."""
    world = World()
    Invariants(world)
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.pods_ready = False
    while world.target.number != 1:
        world.round()
    world.target = replace(world.target, **theirs)
    world.ask("rollback.g1@bad")
    world.settle()
    assert world.generation(1).status.rollout.rollback_reason
    return world


@pytest.mark.survives(
    "Deployments",
    "another client sets our variables, and the generation that is rolled back was the first",
    "they are left alone; the message has the command that ends the rollback",
)
def test_without_a_live_generation_nothing_is_said_to_be_applied_again() -> None:
    world = rolled_back_first(digest=digest("theirs"))
    runs = f"Deployment ranker runs {digest('theirs')[:19]}…, which is of no generation, and none"
    ends = "and the rollback of shop-g1 ends, and the next generation that rolls out sets them"
    assert message(world) == f"{runs} is live; remove both variables ({COMMAND}), {ends}"
    hand_over(world)
    world.rounds(1)
    assert world.generation(1).status.outcome == "RolledBack"


def test_a_field_manager_that_keeps_the_variables_is_told_the_same() -> None:
    world = rolled_back_first(foreign_manager="helm")
    ends = "and the rollback of shop-g1 ends, and the next generation that rolls out sets them"
    assert message(world).endswith(f"or by {COMMAND}, {ends}")
    hand_over(world)
    world.rounds(1)
    assert world.generation(1).status.outcome == "RolledBack"


def test_in_the_first_rollout_the_variables_are_applied_again() -> None:
    world = World()
    Invariants(world)
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.pods_ready = False
    while world.target.number != 1:
        world.round()
    world.target = replace(world.target, digest=digest("theirs"))
    world.settle()
    assert message(world).endswith("and those of shop-g1 are applied again")
    hand_over(world)
    world.settle()
    assert world.target.number == 1
