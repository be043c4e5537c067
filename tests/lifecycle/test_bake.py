"""What a bake does: it watches the live generation, delays the next rollout, and rolls back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.declared import SPEC
from lifecycle.world import World, digest

ROLLOUT = {**SPEC["rollout"], "bake": {"duration": "1h"}}


def baking(promotions: int = 2, world: World | None = None, **rollout: object) -> World:
    """A world whose newest generation was promoted and bakes, those before without a bake."""
    world = world or World()
    world.settle()
    world.months = ["2025-01", "2025-02"]
    if promotions == 2:
        world.rounds(8)
        world.months.append("2025-03")
    world.edit(rollout={**ROLLOUT, **rollout})
    while world.update.status.live is None or world.update.status.live.number < promotions:
        world.round(1)
    return world


def later(world: World, minutes: float) -> None:
    """Let time pass for the operator alone, minute by minute."""
    for _ in range(int(minutes)):
        world.now += timedelta(minutes=1)
        world.settle()


def test_a_promoted_generation_bakes_and_the_bake_ends_by_itself() -> None:
    world = baking()
    rollout = world.generation(2).status.rollout
    assert rollout.bake_until == rollout.promoted_at + timedelta(hours=1)
    assert world.update.status.phase == "Baking"
    until = f"{rollout.bake_until:%H:%M} UTC"
    assert world.update.status.progress.summary == f"baking until {until}"
    assert world.plan.wake_after <= rollout.bake_until - world.now

    world.now = rollout.bake_until
    world.settle()
    assert world.generation(2).status.rollout.baked_at == world.now
    assert world.update.status.phase != "Baking"
    assert "BakeEnded" in world.events
    assert world.condition("ActionRequired").status == "False"


def test_without_rollout_bake_nothing_is_watched() -> None:
    world = World()
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    world.crash_a_pod()
    later(world, 30)
    rollout = world.generation(1).status.rollout
    assert rollout.promoted_at
    assert (rollout.bake_until, rollout.unavailable_since, rollout.rollback_reason) == (
        None,
        None,
        "",
    )


def test_training_goes_on_during_a_bake_and_the_next_rollout_waits_for_its_end() -> None:
    world = baking()
    world.months.append("2025-04")
    until = world.generation(2).status.rollout.bake_until
    while world.now < until - timedelta(minutes=2):
        world.round(1)
    third = world.generation(3)
    assert third.status.verdict == "Accepted"
    assert third.status.rollout.step_started_at is None
    assert world.update.status.phase == "Baking"
    assert f"it lasts until {until:%Y-%m-%d %H:%M} UTC" in world.update.status.progress.waiting_for
    world.rounds(6)
    assert world.generation(3).status.rollout.promoted_at
    assert world.generation(2).status.rollout.baked_at


@pytest.mark.survives(
    "Deployments",
    "pods of a promoted generation crash during its bake",
    "every target is rolled back to the generation before",
)
def test_pods_that_crash_for_longer_than_the_deadline_are_rolled_back() -> None:
    world = baking()
    first = world.generation(1).status.artifact.served_digest
    world.crash_a_pod()
    later(world, 9)
    assert not world.generation(2).status.rollout.rollback_reason
    later(world, 2)
    reason = world.generation(2).status.rollout.rollback_reason
    assert "Deployment ranker: 1 of 2 pods fail (container server ended with code 1" in reason
    assert "longer than 10m (rollout.deadline)" in reason
    assert world.target.digest == first
    world.recover_pods()
    world.settle()
    assert world.generation(2).status.rollout.rolled_back_at
    assert world.update.status.live.number == 1


def test_pods_that_crash_again_and_again_are_rolled_back_though_they_recover_in_between() -> None:
    world = baking()
    for _ in range(6):
        world.crash_a_pod()
        later(world, 1)
        world.recover_pods()
        later(world, 1)
    world.crash_a_pod()
    later(world, 1)
    assert world.generation(2).status.rollout.rollback_reason


def test_pods_that_an_autoscaler_adds_again_and_again_are_not_taken_for_crashing_ones() -> None:
    world = baking()
    for pods in (3, 4, 5, 6):
        starting = {"desired": pods, "available": pods - 1, "ready": pods - 1, "failing": 1}
        world.target = replace(world.target, **starting)
        world.settle()
        later(world, 2)
        world.recover_pods()
        world.settle()
        later(world, 2)
    assert not world.generation(2).status.rollout.rollback_reason


def test_a_pod_that_crashes_once_and_stays_up_is_forgotten_after_the_deadline() -> None:
    world = baking()
    world.crash_a_pod()
    later(world, 3)
    world.recover_pods()
    later(world, 11)
    rollout = world.generation(2).status.rollout
    assert (rollout.unavailable_since, rollout.recovered_at) == (None, None)
    world.crash_a_pod()
    later(world, 9)
    assert not world.generation(2).status.rollout.rollback_reason


def test_a_bake_does_not_end_while_pods_fail_or_have_failed_just_now() -> None:
    world = baking()
    world.now = world.generation(2).status.rollout.bake_until - timedelta(minutes=5)
    world.crash_a_pod()
    world.settle()
    later(world, 7)
    assert not world.generation(2).status.rollout.baked_at
    world.recover_pods()
    later(world, 11)
    assert world.generation(2).status.rollout.baked_at
    assert not world.generation(2).status.rollout.rollback_reason


@pytest.mark.parametrize(
    "change",
    [
        {"paused": True},
        {"desired": 0},
        {"foreign_manager": "helm"},
        {"template": digest("the owner's new image")},
    ],
    ids=["paused", "scaled to 0", "another manager", "changed template"],
)
def test_what_the_owner_of_a_deployment_does_is_not_held_against_the_generation(change) -> None:
    world = baking()
    world.crash_a_pod()
    later(world, 5)
    world.target = replace(world.target, **change)
    world.settle()
    later(world, 30)
    assert not world.generation(2).status.rollout.rollback_reason


def test_pods_of_a_changed_template_count_again_once_they_were_all_available() -> None:
    world = baking(rollback={})
    world.target = replace(world.target, template=digest("the owner's new image"))
    world.settle()
    (recorded,) = world.generation(2).status.rollout.targets
    assert recorded.template == digest("the owner's new image")
    world.crash_a_pod()
    later(world, 11)
    assert world.generation(2).status.rollout.rollback_reason


def test_with_automatic_false_a_user_decides() -> None:
    world = baking(rollback={"automatic": False})
    world.crash_a_pod()
    later(world, 11)
    required = world.condition("ActionRequired")
    assert (required.status, required.reason) == ("True", "BakeFailed")
    assert "springtide.dev/request=rollback.g2@<token>, or promote.g2@<token>" in required.message
    assert not world.generation(2).status.rollout.rollback_reason
    world.recover_pods()
    later(world, 1)
    assert world.condition("ActionRequired").status == "False"


def test_in_mode_observe_a_user_decides_too() -> None:
    world = baking()
    world.edit(mode="Observe")
    world.crash_a_pod()
    later(world, 11)
    assert not world.generation(2).status.rollout.rollback_reason
    assert world.condition("ActionRequired").reason == "BakeFailed"


def test_without_an_earlier_generation_nothing_is_withdrawn() -> None:
    world = baking(promotions=1)
    world.crash_a_pod()
    later(world, 11)
    required = world.condition("ActionRequired")
    assert (required.status, required.reason) == ("True", "BakeFailed")
    assert "there is no earlier generation to return to, so it keeps serving" in required.message
    assert world.target.digest
    world.now = world.generation(1).status.rollout.bake_until
    world.settle()
    assert world.generation(1).status.rollout.baked_at  # the next generation may be the fix
    assert any("there is no earlier generation" in text for text in world.event_messages)


def test_a_bake_that_is_removed_from_the_spec_ends() -> None:
    world = baking()
    world.edit(rollout=SPEC["rollout"])
    world.settle()
    assert world.generation(2).status.rollout.baked_at == world.now
    assert "shop-g2: the bake ended: spec.rollout.bake was removed" in world.event_messages


def test_an_operator_that_was_away_ends_the_bake_when_it_is_back() -> None:
    world = baking()
    world.now += timedelta(days=3)
    world.restart_operator()
    world.settle()
    assert world.generation(2).status.rollout.baked_at == world.now


def test_promote_ends_the_bake_of_the_generation_that_it_names() -> None:
    world = baking()
    world.ask("promote.g1@old")
    world.settle()
    assert world.update.status.last_request.result == "Refused"
    world.ask("promote.g2@now")
    world.settle()
    assert world.update.status.last_request.result == "Accepted"
    assert world.generation(2).status.rollout.baked_at == world.now
