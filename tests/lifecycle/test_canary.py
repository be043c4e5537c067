"""A canary by Replicas: its steps, its pods, its end, and what aborts it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from lifecycle.canary_scenes import STEPS, later, set_strategy, started, summary, with_live
from lifecycle.declared import TWO_TARGETS
from lifecycle.world import digest


def test_the_first_generation_rolls_out_without_steps_as_nothing_is_live_to_compare_with() -> None:
    world = with_live()
    assert "CanaryStep" not in world.events
    assert world.generation(1).status.rollout.step is None


def test_steps_follow_each_other_and_the_targets_get_the_generation_after_the_last() -> None:
    world = started()
    rollout = world.generation(2).status.rollout
    assert (rollout.step, rollout.weight, rollout.weight_seen_at) == (1, 10, world.now)
    assert (world.canary.desired, world.canary.number, world.target.number) == (1, 2, 1)
    assert summary(world).startswith("canary 10 %, step 1/2, until ")

    later(world, 9)
    assert world.generation(2).status.rollout.step == 1
    later(world, 1)
    rollout = world.generation(2).status.rollout
    assert (rollout.step, rollout.weight, rollout.weight_seen_at) == (2, 50, None)
    assert world.canary.desired == 9
    later(world, 1)
    assert world.generation(2).status.rollout.weight_seen_at == world.now
    later(world, 19)
    assert world.target.number == 1

    world.pods_ready = False
    later(world, 1)
    rollout = world.generation(2).status.rollout
    assert rollout.steps_ended_at == world.now
    assert (world.target.number, rollout.promoted_at) == (2, None)
    assert world.canary.desired == 9, "it keeps its weight until the targets have the generation"

    world.pods_ready = True
    later(world, 1)
    assert not world.canaries
    assert world.generation(2).status.outcome == "Live"
    named = [e for e in world.events if e.startswith("Canary")]
    assert named == ["CanaryStep", "CanaryStep", "CanaryPassed", "CanaryRemoved"]


def test_a_canary_whose_pods_do_not_get_ready_is_removed_and_no_target_was_changed() -> None:
    world = started(ready=False)
    world.crash_canaries()
    served = list(world.served)
    later(world, 9)
    assert summary(world) == "canary 10 %, step 1/2, 0/1 pods"
    later(world, 3)
    status = world.generation(2).status
    assert (status.outcome, world.canaries, world.served) == ("RolledBack", {}, served)
    assert (
        "Deployment ranker-canary: 0 of 1 canary pods available" in status.rollout.rollback_reason
    )
    assert "killed" in status.rollout.rollback_reason


def test_a_canary_without_an_image_fails_its_rollout_and_may_be_retried_from_the_first_step() -> (
    None
):
    world = started(ready=False)
    world.crash_canaries("image pull failed: not found")
    later(world, 12)
    assert world.generation(2).status.outcome == "RolloutFailed"
    world.canary_pods_ready = True
    world.ask("retry.g2@1")
    world.settle()
    later(world, 2)
    assert (world.generation(2).status.rollout.step, len(world.canaries)) == (1, 1)


def test_pods_that_crash_again_and_again_during_a_step_abort_it() -> None:
    world = started()
    for _ in range(6):
        world.crash_canaries()
        world.settle()
        world.now += timedelta(minutes=2)
        world.canary_pods_ready = True
        world.finish_canaries()
        world.settle()
    assert world.generation(2).status.rollout.step == 1
    world.crash_canaries()
    later(world, 1)
    assert world.generation(2).status.outcome == "RolledBack"
    assert not world.canaries


def test_a_canary_whose_pods_crash_in_a_long_step_is_decided_on_in_time() -> None:
    world = started(steps=[{"weight": 10, "duration": "3h"}])
    world.crash_canaries()
    world.settle()
    crashed = world.now
    while not world.generation(2).status.rollout.rollback_reason:
        world.now += world.plan.wake_after
        world.settle()
    assert world.now - crashed <= timedelta(minutes=11)


def test_a_step_goes_on_once_its_pods_have_been_available_for_as_long_as_the_deadline() -> None:
    world = started()
    world.crash_canaries()
    later(world, 1)
    world.canary_pods_ready = True
    later(world, 10)
    assert world.generation(2).status.rollout.step == 1
    assert "waits for pods" in summary(world)
    later(world, 3)
    assert world.generation(2).status.rollout.step == 2


def test_a_pod_that_is_not_available_during_a_long_step_wakes_the_update_before_its_end() -> None:
    world = started(steps=[{"weight": 10, "duration": "5h"}])
    world.crash_canaries()
    plan = world.settle()
    assert plan.wake_after == timedelta(seconds=30)


def test_a_rollback_requested_during_a_step_removes_the_canary_first() -> None:
    world = started()
    world.ask("rollback.g2@1")
    world.settle()
    assert not world.canaries
    assert world.generation(2).status.outcome == "RolledBack"
    assert world.target.number == 1


def test_the_canaries_of_several_targets_start_and_end_together() -> None:
    world = started(two=True)
    assert {c.of: c.deployment.desired for c in world.canaries.values()} == {
        "ranker": 1,
        "reranker": 1,
    }
    world.crash_canaries()
    world.change_canary("ranker-canary", available=1, updated=1, ready=1, failing=0)
    later(world, 12)
    assert not world.canaries
    assert world.generation(2).status.outcome == "RolledBack"


def test_a_scaled_target_rescales_its_canary_and_the_step_goes_on() -> None:
    world = started()
    seen_at = world.generation(2).status.rollout.weight_seen_at
    world.target = replace(world.target, desired=27)
    later(world, 1)
    rollout = world.generation(2).status.rollout
    assert (world.canary.desired, rollout.step, rollout.weight_seen_at) == (3, 1, seen_at)


def test_a_target_that_is_scaled_up_again_and_again_does_not_abort_its_canary() -> None:
    world = started(steps=[{"weight": 10, "duration": "3h"}])
    for pods in (27, 45, 63, 81, 99):
        world.target = replace(world.target, desired=pods)
        world.settle()
        later(world, 4)
    rollout = world.generation(2).status.rollout
    assert (rollout.rollback_reason, world.canary.desired) == ("", 11)
    world.crash_canaries()
    world.settle()
    world.target = replace(world.target, desired=117)
    later(world, 11)
    assert world.generation(2).status.outcome == "RolledBack"


def test_a_weight_that_whole_pods_do_not_reach_is_refused_with_the_nearest_ones() -> None:
    world = with_live(steps=[{"weight": 10, "duration": "1m"}])
    world.target = replace(world.target, desired=2)
    world.finish_rollouts()
    world.months.append("2025-03")
    world.rounds(6)
    assert not world.canaries
    stalled = world.condition("Stalled")
    assert stalled.reason == "WeightNotPossible"
    assert "steps[0].weight: 10 %" in stalled.message
    assert "33 %, 50 %" in stalled.message
    set_strategy(world, {"weight": 33, "duration": "1m"})
    world.rounds(6)
    assert world.generation(2).status.outcome == "Live"


def test_a_step_whose_weight_is_no_longer_possible_waits_for_pods_and_aborts_nothing() -> None:
    world = started(steps=[STEPS[0], {"weight": 25, "duration": "1m"}])
    world.target = replace(world.target, desired=1)
    later(world, 40)
    rollout = world.generation(2).status.rollout
    assert (rollout.step, rollout.rollback_reason, world.canary.desired) == (1, "", 1)
    assert "steps[1].weight: 25 %" in world.condition("Stalled").message
    world.target = replace(world.target, desired=0)
    later(world, 1)
    assert world.condition("Stalled").reason == "TargetScaledToZero"
    world.target = replace(world.target, desired=9)
    later(world, 1)
    assert world.generation(2).status.rollout.step == 2


def test_a_deployment_of_a_user_with_the_name_of_a_canary_is_left_alone() -> None:
    world = with_live()
    world.take_canary_name()
    taken = dict(world.canaries)
    world.months.append("2025-03")
    world.rounds(6)
    assert world.condition("Stalled").reason == "NameCollision"
    assert world.canaries == taken
    world.canaries.clear()
    world.settle()
    assert world.generation(2).status.rollout.step == 1


def test_a_template_that_cannot_run_twice_is_refused_by_name() -> None:
    world = with_live()
    world.target = replace(world.target, not_copied="its container server uses hostPort 8080")
    world.months.append("2025-03")
    world.rounds(6)
    stalled = world.condition("Stalled")
    assert stalled.reason == "CanaryNotPossible"
    assert "hostPort 8080" in stalled.message


def test_a_canary_that_a_user_edits_or_deletes_is_made_again_and_its_step_starts_again() -> None:
    world = started()
    uid = world.canary.uid
    world.now += timedelta(minutes=1)
    world.edit_canary("ranker-canary")
    later(world, 1)
    assert world.canary.uid != uid
    assert world.canaries["ranker-canary"].edited_by == ""
    del world.canaries["ranker-canary"]
    later(world, 1)
    later(world, 1)
    rollout = world.generation(2).status.rollout
    assert (rollout.step, rollout.weight_seen_at) == (1, world.now)
    assert "kubectl-edit changed the pod template" in " ".join(world.event_messages)


def test_a_canary_that_a_user_scales_is_scaled_back() -> None:
    world = started()
    world.change_canary("ranker-canary", desired=5)
    later(world, 1)
    assert world.canary.desired == 1


def test_the_owners_change_of_a_target_holds_the_step_and_the_canary_is_made_from_it() -> None:
    world = started()
    changed = {"template": digest("another image"), "updated": 1, "available": 9, "old": 8}
    world.pods_ready = False
    world.target = replace(world.target, **changed, complete=False, changed_by="helm")
    later(world, 30)
    rollout = world.generation(2).status.rollout
    assert (rollout.step, world.canaries["ranker-canary"].made_from) == (
        1,
        digest("template of ranker"),
    )
    assert rollout.held_since is not None
    assert "changed by helm" in world.update.status.progress.waiting_for
    world.pods_ready = True
    later(world, 2)
    assert world.canaries["ranker-canary"].made_from == digest("another image")
    rollout = world.generation(2).status.rollout
    assert (rollout.step, rollout.held_since) == (1, None)
    later(world, 40)
    assert world.generation(2).status.outcome == "Live"


def test_suspend_keeps_the_weight_and_starts_no_step() -> None:
    world = started()
    world.edit(suspend=True)
    later(world, 60)
    assert world.generation(2).status.rollout.step == 1
    assert world.canary.desired == 1
    world.edit(suspend=False)
    later(world, 1)
    assert world.generation(2).status.rollout.step == 2


def test_a_pin_removes_the_canary_and_the_steps_start_again_after_it() -> None:
    world = started()
    world.pin(1)
    world.settle()
    rollout = world.generation(2).status.rollout
    assert (world.canaries, rollout.step_started_at, rollout.step) == ({}, None, None)
    world.pin(None)
    later(world, 3)
    assert world.generation(2).status.rollout.step == 1
    assert world.canary.number == 2


def test_steps_edited_during_a_canary_count_at_once() -> None:
    world = started()
    set_strategy(world, {"weight": 25, "duration": "5m"}, STEPS[1])
    later(world, 2)
    rollout = world.generation(2).status.rollout
    assert (rollout.step, rollout.weight, world.canary.desired) == (1, 25, 3)
    set_strategy(world, {"weight": 25, "duration": "1h"}, STEPS[1])
    later(world, 30)
    assert world.generation(2).status.rollout.step == 1


def test_without_further_steps_in_the_spec_the_rollout_goes_on_to_the_targets() -> None:
    for steps in ([], STEPS[:1]):
        world = started()
        later(world, 12)
        assert world.generation(2).status.rollout.step == 2
        set_strategy(world, *steps)
        later(world, 3)
        assert "CanaryEnded" in world.events
        assert world.generation(2).status.outcome == "Live"
        assert not world.canaries


def test_a_strategy_with_steps_concerns_the_next_rollout_not_one_in_progress() -> None:
    world = with_live(steps=[])
    world.pods_ready = False
    world.months.append("2025-03")
    while world.target.number != 2:
        world.round()
    set_strategy(world, *STEPS)
    later(world, 2)
    assert not world.canaries


def test_a_target_added_during_a_canary_gets_live_and_a_canary_of_its_own() -> None:
    world = started()
    named = world.spec["rollout"]["targets"]
    world.create_target_of({"targetRef": {"name": "reranker"}, "container": "server"}, desired=9)
    set_strategy(world, *STEPS, targets=[*named, *TWO_TARGETS["rollout"]["targets"][1:]])
    later(world, 3)
    assert world.targets["reranker"].number == 1
    assert {*world.canaries} == {"ranker-canary", "reranker-canary"}
    set_strategy(world, *STEPS, targets=named)
    later(world, 1)
    assert {*world.canaries} == {"ranker-canary"}


def test_a_deleted_update_takes_its_canary_along_and_then_its_finalizer_goes() -> None:
    world = started()
    world._meta(deletion_timestamp=world.now)
    world.settle()
    assert not world.canaries
    assert world.update.metadata.finalizers == ()
    assert world.generation(2).status.rollout.rolled_back_at is not None
    assert world.target.number == 1


def test_a_canary_that_a_deleted_update_left_is_removed_by_the_next_of_its_name() -> None:
    world = started()
    world.recreate()
    world._meta(finalizers=())
    generation = world.generations["shop-g2"]
    rollout = generation.status.rollout.model_copy(
        update={"rollback_reason": "deleted", "rolled_back_at": world.now}
    )
    status = generation.status.model_copy(update={"rollout": rollout})
    world.generations["shop-g2"] = generation.model_copy(update={"status": status})
    world.settle()
    assert not world.canaries


def test_a_refused_deletion_holds_neither_the_return_of_the_targets_nor_another_canary() -> None:
    world = started(two=True)
    world.refusing = {"deletion of Deployment ranker-canary": "WriteRefused"}
    world.ask("rollback.g2@1")
    later(world, 1)
    assert {*world.canaries} == {"ranker-canary"}
    assert world.generation(2).status.rollout.rolled_back_at is None
    assert world.condition("Stalled").reason == "WriteRefused"
    world.refusing = {}
    later(world, 2)
    assert world.generation(2).status.outcome == "RolledBack"


def test_a_refused_canary_stops_the_deadline_and_is_applied_once_it_may_be() -> None:
    world = with_live()
    world.refusing = {"Deployment ranker-canary": "ApplyRefused"}
    world.months.append("2025-03")
    world.rounds(30)
    rollout = world.generation(2).status.rollout
    assert (rollout.step, rollout.rollback_reason, world.canaries) == (1, "", {})
    assert world.condition("Stalled").reason == "ApplyRefused"
    world.refusing = {}
    later(world, 3)
    assert world.generation(2).status.rollout.weight_seen_at is not None


def test_fields_removed_during_a_step_are_restored_to_live() -> None:
    world = started()
    world.target = replace(world.target, digest=None, number=None)
    later(world, 1)
    assert world.target.number == 1
    assert world.generation(2).status.rollout.step == 1


def test_a_pod_that_fails_while_the_deletion_of_the_canary_is_refused_has_its_time() -> None:
    world = started()
    later(world, 11)
    world.refusing = {"deletion of Deployment ranker-canary": "WriteRefused"}
    later(world, 40)
    assert (world.target.number, world.condition("Stalled").reason) == (2, "WriteRefused")
    world.crash_a_pod()
    world.settle()
    world.recover_pods()
    world.refusing = {}
    later(world, 2)
    assert world.generation(2).status.outcome == "Live"


def test_the_finalizer_stays_until_the_canary_of_a_generation_that_a_user_deleted_is_gone() -> None:
    world = started()
    world.refusing = {"deletion of Deployment ranker-canary": "WriteRefused"}
    world.delete_generation("shop-g2")
    later(world, 1)
    assert world.canaries
    assert world.update.metadata.finalizers
    world.refusing = {}
    later(world, 2)
    assert not world.canaries
    assert not world.update.metadata.finalizers
