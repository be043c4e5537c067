"""`spec.rollout.pin`: one generation is served, whatever is live."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.declared import SPEC, TWO_TARGETS
from lifecycle.world import (
    MONTHS,
    World,
    after_promotions,
    digest,
    end_of,
    stuck_in_a_rollout,
    target_removed_during_a_rollout,
    two_targets_on_generation_one,
)


def after_three() -> World:
    """A world with two targets on generation 3; 1 and 2 were live before."""
    world = two_targets_on_generation_one()
    for month in MONTHS[2:4]:
        world.months = [*world.months, month]
        world.rounds(8)
    assert numbers(world) == [3, 3]
    return world


def numbers(world: World) -> list[int | None]:
    return [target.number for target in world.targets.values()]


def test_a_pin_serves_an_earlier_generation_on_every_target_at_once() -> None:
    world = after_three()
    world.pin(1)
    world.settle()
    assert numbers(world) == [1, 1]
    world.rounds(2)

    status = world.update.status
    assert (status.phase, status.pinned.number, status.live.number) == ("Pinned", 1, 3)
    assert status.cursor.trained_through == world.generation(3).status.trained_through
    assert status.freshness.served_data_through == world.generation(1).status.trained_through
    assert status.progress.summary == "g1 is pinned"
    assert world.condition("Serving").status == "True"
    assert world.condition("Serving").message == (
        "every target serves shop-g1, which is pinned; live is shop-g3"
    )
    assert world.condition("TargetsInSync").status == "True"
    assert world.condition("Ready").status == "True"
    assert world.announced[-1] == "Pinned"
    assert world.generation(3).status.outcome == "Live"


def test_without_the_pin_the_targets_return_to_live_and_runs_go_on() -> None:
    world = after_three()
    world.pin(2)
    world.rounds(2)
    world.months = [*world.months, MONTHS[4]]
    world.rounds(4)
    assert (numbers(world), len(world.generations)) == ([2, 2], 4)

    world.pin(None)
    world.settle()
    assert numbers(world) == [3, 3]
    assert world.update.status.phase == "RollingOut"
    assert world.update.status.pinned.number == 2
    world.rounds(1)
    assert world.announced[-1] == "Unpinned"
    assert world.update.status.pinned is None
    world.rounds(8)
    assert (numbers(world), world.update.status.live.number) == ([4, 4], 4)
    assert world.generation(4).spec.parent.name == "shop-g3"


def test_a_pin_on_the_live_generation_changes_no_target_and_starts_no_run() -> None:
    world = after_three()
    served = list(world.served)
    world.pin(3)
    world.months = [*world.months, MONTHS[4]]
    world.rounds(6)
    assert world.served == served
    assert world.update.status.phase == "Pinned"
    assert "shop-g3 is pinned (the live generation)" in world.update.status.progress.waiting_for
    assert len(world.generations) == 4
    world.pin(None)
    world.rounds(8)
    assert numbers(world) == [4, 4]


@pytest.mark.survives(
    "People",
    "a generation is pinned during a rollout",
    "every target gets the pinned generation; the rollout is aborted without a verdict, and starts "
    "again after the pin is removed",
)
def test_a_pin_aborts_a_rollout_uncounted_and_the_candidate_rolls_out_later() -> None:
    world = stuck_in_a_rollout()
    world.pin(1)
    world.rounds(1)
    second = world.generation(2).status
    assert world.target.number == 1
    assert (second.verdict, second.phase, second.outcome) == ("Accepted", "Accepted", "")
    assert (second.rollout.step_started_at, second.rollout.deadline) == (None, None)
    assert "RolloutAborted" in world.events
    assert world.update.metadata.finalizers == ()
    world.rounds(20)
    assert world.update.status.counters.rolled_back == 0

    world.pods_ready = True
    world.pin(None)
    world.rounds(4)
    assert world.generation(2).status.outcome == "Live"
    assert world.update.status.counters.promoted == 2


def test_a_rollout_starts_only_after_the_return_to_live() -> None:
    world = after_three()
    world.months = [*world.months, MONTHS[4]]
    while "shop-g4" not in world.generations or not world.generation(4).status.verdict_at:
        world.now += timedelta(minutes=1)
        world.complete_jobs()
        world.step()
    world.pin(1)
    world.rounds(2)
    world.pods_ready = False
    world.pin(None)
    world.rounds(2)
    assert numbers(world) == [3, 3]
    assert "the targets return to shop-g3 first" in world.update.status.progress.waiting_for
    world.pods_ready = True
    world.rounds(4)
    assert numbers(world) == [4, 4]


def test_a_pin_that_is_removed_before_the_rollout_is_aborted_lets_it_continue() -> None:
    world = stuck_in_a_rollout()
    world.target = replace(world.target, digest=digest("theirs"))
    due = world.generation(2).status.rollout.deadline
    world.pin(1)
    world.rounds(30)
    assert world.generation(2).status.rollout.step_started_at
    assert world.condition("ActionRequired").reason == "FieldConflict"
    world.target = replace(world.target, digest=None, number=None)
    world.pin(None)
    world.pods_ready = True
    world.rounds(3)
    assert due < world.now
    assert world.generation(2).status.outcome == "Live"


def test_a_target_removed_during_the_rollout_gets_the_pinned_generation_too() -> None:
    world = target_removed_during_a_rollout()
    world.pin(1)
    world.rounds(2)
    assert numbers(world) == [1, 1]


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


def test_a_pin_suspends_the_running_job_which_resumes_afterwards() -> None:
    world = after_three()
    world.months = [*world.months, MONTHS[4]]
    while not any(job.stage == "train" for job in world.jobs.values()):
        world.now += timedelta(minutes=1)
        for name, job in list(world.jobs.items()):
            if job.stage == "probe":
                world.succeed(name, world._result(world.runs[name]))
        world.step()
    (train,) = [name for name, job in world.jobs.items() if job.stage == "train"]
    world.pin(1)
    world.settle()
    assert world.jobs[train].suspended_by_us
    assert numbers(world) == [1, 1]
    assert world.update.status.phase == "Pinned"
    world.pin(None)
    world.settle()
    assert not world.jobs[train].suspended
    world.rounds(4)
    assert numbers(world) == [4, 4]


@pytest.mark.parametrize("verb", ["run", "retry"])
def test_no_run_is_requested_while_a_generation_is_pinned(verb: str) -> None:
    world = after_three()
    world.pin(2)
    world.ask(f"{verb}@1")
    world.settle()
    request = world.update.status.last_request
    assert request.result == "Refused"
    assert request.message == "spec.rollout.pin is set (generation 2); remove it first"


def test_a_target_with_another_clients_value_is_left_alone_by_a_pin() -> None:
    world = after_three()
    world.targets["reranker"] = replace(world.targets["reranker"], digest=digest("theirs"))
    world.pin(1)
    world.rounds(2)
    assert world.target.number == 1
    assert world.targets["reranker"].digest == digest("theirs")
    assert world.condition("TargetsInSync").reason == "FieldConflict"


def test_a_pin_serves_although_a_change_of_the_owner_is_not_finished() -> None:
    world = after_three()
    for name, target in world.targets.items():
        changed = {"template": digest("another"), "complete": False, "available": 1, "old": 1}
        world.targets[name] = replace(target, **changed)
    world.pods_ready = False
    world.pin(1)
    world.settle()
    assert numbers(world) == [1, 1]


def test_a_pin_is_served_while_the_update_is_suspended() -> None:
    world = after_three()
    world.edit(suspend=True)
    world.settle()
    world.pin(1)
    world.settle()
    assert numbers(world) == [1, 1]
    waiting = world.update.status.progress.waiting_for
    assert "before spec.rollout.pin is removed and spec.suspend is false" in waiting


def test_removed_fields_are_applied_again_with_the_pinned_generation() -> None:
    world = after_three()
    world.pin(1)
    world.rounds(1)
    world.target = replace(world.target, digest=None, number=None)
    world.settle()
    assert numbers(world) == [1, 1]
    assert "FieldsRestored" in world.events


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
