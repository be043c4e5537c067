"""Pins that are not possible: nothing that is served changes."""

from __future__ import annotations

from datetime import timedelta

import pytest
from lifecycle.test_pin import after_three, numbers
from lifecycle.world import (
    MONTHS,
    World,
    after_promotions,
    stuck_in_a_rollout,
)


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (9, "generation 9 cannot be pinned: it does not exist"),
        (0, "generation 0 cannot be pinned: it was never promoted"),
        (3, "generation 3 cannot be pinned: it was rolled back"),
    ],
)
def test_a_generation_that_was_never_live_cannot_be_pinned(number: int, why: str) -> None:
    world = after_promotions(2)
    world.pods_ready = False
    world.months = [*world.months, MONTHS[3]]
    world.rounds(14)
    world.pods_ready = True
    world.rounds(2)
    served = list(world.served)
    world.pin(number)
    world.rounds(4)
    stalled = world.condition("Stalled")
    assert stalled.reason == "PinNotPossible"
    assert f"spec.rollout.pin.generation: {why}; pin one of 2, 1, or remove" in stalled.message
    assert world.condition("ActionRequired").message == stalled.message
    assert world.served == served
    assert world.update.status.pinned is None


def test_a_pin_before_the_first_promotion_is_not_possible() -> None:
    world = World()
    world.pin(1)
    world.settle()
    assert "it does not exist; none can be pinned yet; remove" in world.condition("Stalled").message
    assert not world.generations


def test_a_pin_that_is_edited_to_one_that_is_not_possible_keeps_what_is_served() -> None:
    world = after_three()
    world.pin(1)
    world.rounds(1)
    world.pin(9)
    world.rounds(3)
    assert numbers(world) == [1, 1]
    assert world.update.status.pinned.number == 1
    assert world.condition("Stalled").reason == "PinNotPossible"
    world.pin(2)
    world.rounds(1)
    assert (numbers(world), world.condition("Stalled")) == ([2, 2], None)


def test_a_pin_that_is_not_possible_does_not_start_a_rollout_and_lets_one_end() -> None:
    world = stuck_in_a_rollout()
    world.pin(9)
    world.pods_ready = True
    world.rounds(2)
    assert world.generation(2).status.outcome == "Live"
    world.months = [*world.months, MONTHS[3]]
    world.rounds(4)
    assert world.target.number == 2
    assert len(world.generations) == 3


def test_a_pinned_generation_is_never_pruned_and_one_without_weights_is_refused() -> None:
    world = after_promotions(3, generations=2)
    assert "shop-g1" not in world.generations
    world.edit(history={"generations": 10})
    for month in MONTHS[4:6]:
        world.months = [*world.months, month]
        world.rounds(8)
    world.pin(2)
    world.rounds(1)
    world.edit(history={"generations": 2})
    world.rounds(6)
    assert {"shop-g2", "shop-g3"} <= world.generations.keys()
    world.pin(None)
    world.rounds(6)
    assert not {"shop-g2", "shop-g3"} & world.generations.keys()


def test_a_generation_whose_weights_are_being_deleted_cannot_be_pinned() -> None:
    world = after_promotions(3)
    world.edit(history={"generations": 2})
    while not world.generation(1).status.files_deleted_at:
        world.now += timedelta(minutes=1)
        world.complete_jobs()
        world.step()
    world.pin(1)
    world.settle()
    assert "its weights were deleted (spec.history)" in world.condition("Stalled").message
    assert world.target.number == 3
