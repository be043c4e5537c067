"""A person deletes the record of the live generation in the steps of a canary: they hold."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from lifecycle.canary_scenes import STEPS, later, set_strategy, started
from lifecycle.test_canary_analysis import LATENCY, RATIO, analysed, minutes, rollout_of

if TYPE_CHECKING:
    from lifecycle.world import World

    from springtide_api.objects import ModelGeneration


def delete_live(world: World) -> ModelGeneration:
    """Delete the only generation that was promoted; return what a backup has."""
    kept = world.generation(1)
    world.delete_generation("shop-g1")
    world.check.__self__.forget_generation("shop-g1")
    return kept


def test_the_steps_hold_and_the_targets_keep_what_they_serve_until_a_user_decides() -> None:
    world = started()
    served = list(world.served)
    delete_live(world)
    later(world, 60)
    rollout = rollout_of(world)
    assert (rollout.step, rollout.weight, rollout.steps_ended_at) == (1, 10, None)
    assert (world.served, [*world.canaries]) == (served, ["ranker-canary"])
    for kind in ("ActionRequired", "TargetsInSync"):
        assert world.condition(kind).reason == "LiveGenerationDeleted"
    assert "rollback.g2@<token>" in world.condition("ActionRequired").message


def test_the_steps_go_on_once_the_record_is_restored() -> None:
    world = started()
    kept = delete_live(world)
    later(world, 60)
    world.generations["shop-g1"] = kept
    later(world, 40)
    assert world.generation(2).status.outcome == "Live"
    assert "CanaryPassed" in world.events


def test_a_metric_that_fails_still_aborts_the_canary_and_changes_no_target() -> None:
    world = analysed(LATENCY, RATIO)
    minutes(world, 2)
    served = list(world.served)
    delete_live(world)
    world.measured["latency"] = 0.9
    minutes(world, 5)
    assert "metric latency is outside its bounds" in rollout_of(world).rollback_reason
    assert world.generation(2).status.outcome == "RolledBack"
    assert (world.canaries, world.served, world.target.number) == ({}, served, 1)


def test_no_ratio_is_asked_for_without_a_generation_to_compare_with() -> None:
    world = analysed(RATIO)
    minutes(world, 2)
    delete_live(world)
    world.queried.clear()
    minutes(world, 5, canary=(90, 100))
    assert (world.queried, rollout_of(world).rollback_reason) == ([], "")
    assert rollout_of(world).step == 1


def test_a_rollback_on_request_removes_the_canary_and_no_variable_from_the_targets() -> None:
    world = started()
    digest = world.target.digest
    delete_live(world)
    world.ask("rollback.g2@1")
    later(world, 2)
    assert world.generation(2).status.outcome == "RolledBack"
    assert (world.canaries, world.target.digest) == ({}, digest)
    assert "the targets keep what they serve" in world.update.status.last_request.message
    assert "the targets keep what they serve" in world.event_messages[-1]


def test_without_a_strategy_the_generation_rolls_out_once_the_target_is_handed_over() -> None:
    world = started()
    delete_live(world)
    later(world, 5)
    set_strategy(world)
    later(world, 5)
    assert rollout_of(world).steps_ended_at
    assert world.condition("ActionRequired").reason == "FieldConflict"
    world.target = replace(world.target, digest=None, number=None)
    later(world, 5)
    assert world.generation(2).status.outcome == "Live"


def test_an_edited_weight_does_not_start_a_step_meanwhile() -> None:
    world = started()
    delete_live(world)
    later(world, 2)
    set_strategy(world, {"weight": 50, "duration": "5m"}, *STEPS[1:])
    later(world, 10)
    assert (rollout_of(world).weight, world.canary.desired) == (10, 1)
