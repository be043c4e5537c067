"""`spec.rollout.pin`: one generation is served, whatever is live."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.world import (
    MONTHS,
    World,
    digest,
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
