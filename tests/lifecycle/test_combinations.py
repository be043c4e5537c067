"""Pin, bake, rollback, modes and deletion at the same time."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from lifecycle.choices import ANALYSIS
from lifecycle.test_bake import baking, later
from lifecycle.test_pin import after_three, numbers
from lifecycle.world import (
    MONTHS,
    World,
    after_promotions,
    digest,
    stuck_in_a_rollout,
    with_generation_one,
)


def pinned_while_helm_sets_the_variables() -> World:
    """Generation 2 rolls out, generation 1 is pinned, and the pin cannot be served yet."""
    world = stuck_in_a_rollout()
    world.target = replace(world.target, foreign_manager="helm")
    world.pin(1)
    return world


def test_a_pin_that_waits_for_another_client_uses_no_time_of_the_rollout() -> None:
    world = pinned_while_helm_sets_the_variables()
    due = world.generation(2).status.rollout.deadline
    world.rounds(30)
    assert world.now > due
    world.target = replace(world.target, foreign_manager="")
    world.pin(None)
    world.settle()
    rollout = world.generation(2).status.rollout
    assert (rollout.rollback_reason, rollout.rolled_back_at) == ("", None)
    assert rollout.deadline > world.now


def test_a_bake_stays_stopped_while_a_mode_keeps_the_pinned_generation_on_the_targets() -> None:
    world = baking()
    world.pin(1)
    world.settle()
    world.edit(mode="Observe")
    later(world, 90)
    assert world.target.number == 1
    assert world.generation(2).status.rollout.baked_at is None

    world.edit(mode="Enforce")
    world.pin(None)
    world.rounds(1)
    assert world.target.number == 2
    assert world.generation(2).status.rollout.bake_until == world.now + timedelta(hours=1)


def test_a_bake_starts_again_where_the_clock_was_set_back_before_its_start() -> None:
    world = baking()
    world.now -= timedelta(days=30)
    world.settle()
    rollout = world.generation(2).status.rollout
    assert (rollout.bake_started_at, rollout.bake_until) == (
        world.now,
        world.now + timedelta(hours=1),
    )
    later(world, 61)
    assert world.generation(2).status.rollout.baked_at


def test_what_is_measured_while_another_client_sets_all_weights_is_no_evidence() -> None:
    world = baking(analysis=ANALYSIS)
    world.measured = {"errors": 0.5}
    world.target = replace(world.target, digest=digest("theirs"))
    later(world, 90)
    rollout = world.generation(2).status.rollout
    assert (rollout.analysis, rollout.rollback_reason, rollout.baked_at) == ([], "", None)
    assert world.condition("ActionRequired").reason == "FieldConflict"

    world.target = replace(world.target, digest=None, number=None)
    world.settle()
    later(world, 5)
    assert "metric errors" in world.generation(2).status.rollout.rollback_reason


def test_after_a_pin_a_target_without_our_number_returns_to_live_too() -> None:
    world = after_three()
    world.pin(1)
    world.rounds(2)
    world.pods_ready = False
    world.pin(None)
    world.settle()
    for name, target in world.targets.items():
        world.targets[name] = replace(target, number=None)
    world.pods_ready = True
    world.rounds(2)
    assert numbers(world) == [3, 3]
    assert world.update.status.pinned is None


def test_removed_fields_are_applied_again_in_time_while_a_candidate_is_suspended() -> None:
    world = after_three()
    world.months = MONTHS[:5]
    while not any(job.stage == "train" for job in world.jobs.values()):
        world.now += timedelta(minutes=1)
        world.complete_jobs()
        world.settle()
    world.pin(1)
    world.settle()
    for _ in range(4):
        for name, target in world.targets.items():
            world.targets[name] = replace(target, digest=None, number=None)
        world.settle()
    assert numbers(world) == [None, None]
    assert world.condition("ActionRequired").reason == "FieldsRemoved"
    world.now += world.plan.wake_after
    world.settle()
    assert numbers(world) == [1, 1]


def test_an_update_deleted_in_a_rollback_without_an_earlier_generation_withdraws_nothing() -> None:
    world = after_promotions(2)
    world.refusing = {"Deployment ranker": "WriteRefused"}
    world.ask("rollback.g2@1")
    world.settle()
    world.delete_generation("shop-g1")
    world.refusing = {}
    world.round()
    served = world.target.digest
    world._meta(deletion_timestamp=world.now)
    world.settle()
    assert (world.target.digest, world.target.number) == (served, 2)
    assert world.update.metadata.finalizers == ()
    assert "no earlier generation is left" in world.event_messages[-1]


def test_a_refusal_names_no_request_that_would_be_refused() -> None:
    world = with_generation_one()
    for request in ("rollback.g7@1", "promote.g7@2", "promote@3"):
        world.ask(request)
        world.settle()
        message = world.update.status.last_request.message
        assert "rollback.g1@" not in message
        assert "promote.g1@" not in message
