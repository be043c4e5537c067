"""A pin together with a rollback, a bake, a deletion or another update."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.declared import SPEC, TWO_TARGETS
from lifecycle.test_pin import after_three, numbers
from lifecycle.world import (
    MONTHS,
    World,
    after_promotions,
    end_of,
)


@pytest.mark.survives(
    "People",
    "an update with a pin is deleted and created again from Git",
    "the pinned generation is served all the time, and the live one after the pin is removed",
)
def test_an_update_that_is_created_again_with_its_pin_serves_the_pinned_generation() -> None:
    world = after_three()
    world.pin(1)
    world.rounds(1)
    served = list(world.served)
    world.recreate()
    world.rounds(3)
    assert numbers(world) == [1, 1]
    assert world.served == served
    assert (world.update.status.phase, world.update.status.pinned.number) == ("Pinned", 1)
    world.pin(None)
    world.rounds(2)
    assert numbers(world) == [3, 3]


def test_an_update_that_is_created_with_a_pin_moves_the_targets_to_it() -> None:
    world = after_three()
    world.spec["rollout"] = {**world.spec["rollout"], "pin": {"generation": 2}}
    world.recreate()
    world.rounds(3)
    assert numbers(world) == [2, 2]


def test_an_update_that_is_deleted_while_it_aborts_a_rollout_leaves_the_pinned_generation() -> None:
    world = World(spec={**SPEC, **TWO_TARGETS})
    world.settle()
    world.months = MONTHS[:2]
    world.rounds(8)
    for month in MONTHS[2:4]:
        world.months = [*world.months, month]
        if month == MONTHS[3]:
            world.pods_ready = False
        while world.targets["reranker"].number != MONTHS.index(month):
            world.round()
    world.targets["reranker"] = replace(world.targets["reranker"], foreign_manager="kubectl")
    world.pin(1)
    world.settle()
    world._meta(deletion_timestamp=world.now)
    world.targets["reranker"] = replace(world.targets["reranker"], foreign_manager="")
    world.settle()
    assert numbers(world) == [1, 1]
    assert world.update.metadata.finalizers == ()


def test_a_rollback_in_progress_ends_on_the_pinned_generation() -> None:
    world = after_three()
    world.pods_ready = False
    world.months = [*world.months, MONTHS[4]]
    while "shop-g4" not in world.generations or not (
        world.generation(4).status.rollout.rollback_reason
    ):
        world.round()
    world.pin(2)
    world.pods_ready = True
    world.rounds(2)
    assert numbers(world) == [2, 2]
    assert world.generation(4).status.outcome == "RolledBack"
    assert world.update.status.cursor.trained_through == end_of(MONTHS[2])


@pytest.mark.survives(
    "People",
    "the live generation is rolled back while another one is pinned",
    "no target changes; after the pin is removed the targets serve the generation before it",
)
def test_the_live_generation_can_be_rolled_back_while_another_one_is_pinned() -> None:
    world = after_three()
    world.pin(1)
    world.rounds(1)
    served = list(world.served)
    world.ask("rollback.g3@1")
    world.rounds(2)
    request = world.update.status.last_request
    assert (request.result, request.message) == (
        "Accepted",
        "shop-g3 is rolled back (live is shop-g2 then, and shop-g1, which is pinned, is served); "
        "it will not be served again",
    )
    assert (world.served, world.generation(3).status.outcome) == (served, "RolledBack")
    assert (world.update.status.phase, world.update.status.live.number) == ("Pinned", 2)
    world.pin(None)
    world.rounds(2)
    assert numbers(world) == [2, 2]


def test_the_pinned_generation_is_not_rolled_back() -> None:
    world = after_three()
    world.pin(3)
    world.ask("rollback.g3@1")
    world.settle()
    assert world.update.status.last_request.message == (
        "shop-g3 is pinned; remove spec.rollout.pin, or pin another generation first"
    )
    assert world.update.status.last_request.result == "Refused"


@pytest.mark.survives(
    "People",
    "a generation is pinned while the live one bakes, and the pods of the pinned one fail",
    "the bake stops and rolls nothing back; it starts again once the targets are back on live",
)
def test_a_pin_stops_the_bake_which_starts_again_afterwards() -> None:
    world = World()
    world.settle()
    world.months = MONTHS[:2]
    world.rounds(8)
    world.months = MONTHS[:3]
    world.edit(rollout={**SPEC["rollout"], "bake": {"duration": "1h"}})
    while world.update.status.live.number != 2:
        world.round(1)
    first_end = world.generation(2).status.rollout.bake_until
    world.pin(1)
    world.rounds(1)
    world.crash_a_pod()
    world.rounds(60)
    assert first_end < world.now
    assert world.generation(2).status.rollout.rollback_reason == ""
    assert world.generation(2).status.rollout.baked_at is None
    assert world.update.status.phase == "Pinned"
    world.recover_pods()
    world.pin(None)
    world.rounds(1)
    rollout = world.generation(2).status.rollout
    assert rollout.bake_until == rollout.bake_started_at + timedelta(hours=1)
    assert rollout.bake_until > first_end
    assert world.update.status.phase == "Baking"
    world.rounds(40)
    assert world.generation(2).status.rollout.baked_at


def test_a_frozen_live_generation_is_not_rolled_back_by_its_bake() -> None:
    world = World()
    world.settle()
    world.months = MONTHS[:2]
    world.rounds(8)
    world.months = MONTHS[:3]
    world.edit(rollout={**SPEC["rollout"], "bake": {"duration": "1h"}})
    while world.update.status.live.number != 2:
        world.round(1)
    world.pin(2)
    world.crash_a_pod()
    world.rounds(20)
    assert (world.target.number, world.update.status.live.number) == (2, 2)
    world.pin(None)
    world.rounds(20)
    assert world.generation(2).status.rollout.rollback_reason


def test_a_target_that_is_added_while_a_generation_is_pinned_gets_it() -> None:
    world = after_promotions(3)
    world.pin(1)
    world.rounds(1)
    targets = [{"targetRef": {"name": n}, "container": "server"} for n in ("ranker", "reranker")]
    world.edit(rollout={**world.spec["rollout"], "targets": targets})
    world.create_target("reranker")
    world.rounds(1)
    assert numbers(world) == [1, 1]
    assert world.condition("Serving").reason == "Pinned"


@pytest.mark.survives(
    "People",
    "a user deletes the pinned generation",
    "the targets keep serving it, and `PinNotPossible` lists what can be pinned; nothing starts",
)
def test_a_pinned_generation_that_a_user_deletes_stays_on_the_targets() -> None:
    world = after_three()
    world.pin(2)
    world.rounds(1)
    served = list(world.served)
    world.delete_generation("shop-g2")
    world.rounds(3)
    assert (numbers(world), world.served) == ([2, 2], served)
    assert "pin one of 3, 1, or remove" in world.condition("Stalled").message
    world.pin(3)
    world.rounds(1)
    assert world.condition("TargetsInSync").reason == "FieldConflict"  # nothing says what it is


def test_an_update_that_is_deleted_while_a_generation_is_pinned_leaves_it_on_the_targets() -> None:
    world = after_three()
    world.pin(1)
    world.rounds(1)
    served = list(world.served)
    world._meta(deletion_timestamp=world.now)
    world.rounds(2)
    assert (numbers(world), world.served) == ([1, 1], served)
    assert world.update.metadata.finalizers == ()
