"""Kueue or a queue that is missing, stopped or unreadable, and a Job that Kueue gave up."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.queue_scenes import HOUR, admit, hold, passes, progress, queued
from lifecycle.world import World, with_generation_one
from lifecycle.world_queue import MISSING

from springtide_operator.lifecycle.queues.observed import ObservedKind, WorkloadCondition


@pytest.mark.parametrize(
    ("message", "reason"),
    [("LocalQueue gpus doesn't exist", "Inadmissible"), ("ClusterQueue l4 is inactive", "")],
)
def test_a_queue_that_does_not_exist_or_is_stopped_needs_a_user(message, reason) -> None:
    world, name = queued()
    world.refuse_admission(name, "Inadmissible", message)
    world.settle()
    stalled = world.condition("Stalled")
    assert stalled.reason == "Inadmissible"
    assert stalled.message == (
        f"Inadmissible in Kueue: {message}; correct what it names, or change "
        "training.compute.queueName"
    )
    assert world.update.status.phase == "Queued"
    admit(world)
    assert world.condition("Stalled") is None


@pytest.mark.survives(
    "Queues",
    "Kueue is not installed, or is removed",
    "an update with `queueName` is `Stalled/KueueMissing` with what to install, nothing starts, "
    "and it goes on by itself once Kueue is there",
)
@pytest.mark.parametrize("edited", ["before the first run", "before the training"])
def test_without_kueue_the_update_is_stalled_and_goes_on_by_itself(edited) -> None:
    world = World()
    if edited == "before the training":
        world = with_generation_one()
        world.months.append("2025-03")
    world.kueue = MISSING
    world.edit(training={"compute": {"queueName": "gpus"}})
    world.months = world.months or ["2025-01", "2025-02"]
    world.rounds(4)
    stalled, ready = world.condition("Stalled"), world.condition("Ready")
    assert (stalled.reason, ready.status) == ("KueueMissing", "False")
    assert stalled.message == (
        f"Kueue is missing: {MISSING.unavailable}; or remove training.compute.queueName"
    )
    assert world.plan.wake_after <= timedelta(seconds=30)
    assert not [name for name in world.jobs if "-train-" in name]
    world.kueue = ObservedKind()
    world.rounds(12)
    assert world.condition("Stalled") is None
    assert max(g.spec.number for g in world.generations.values()) >= 1
    assert world.update.status.live


def test_a_generation_whose_kueue_goes_away_before_its_job_waits_for_it() -> None:
    world, name = queued(stage="evaluate")
    world.fail(name, 137)
    world.kueue = MISSING
    for _ in range(3):
        passes(world, HOUR)
    evaluation = world.generation(2).status.evaluation
    assert (evaluation.attempt, evaluation.failed_attempts) == (2, 1)
    assert not [each for each in world.jobs if "-evaluate-" in each]
    assert (world.update.status.phase, world.condition("Stalled").reason) == (
        "Queued",
        "KueueMissing",
    )
    world.kueue = ObservedKind()
    world.queue_admits = 9
    world.rounds()
    assert world.generation(2).status.rollout.promoted_at


def test_a_job_in_the_queue_of_a_kueue_that_is_gone_is_not_resumed() -> None:
    world, name = queued(pendingTimeout="1h")
    world.kueue = MISSING
    passes(world, 9 * HOUR)
    assert world.jobs[name].suspended
    assert world.condition("Stalled").reason == "KueueMissing"
    assert world.generation(2).status.verdict == "Pending", "how long it waited is not known"


def test_an_operator_that_may_not_read_workloads_says_so() -> None:
    world, _ = queued()
    world.kueue = replace(MISSING, served=True, unavailable="the operator may not list workloads")
    world.settle()
    assert world.condition("Stalled").reason == "KueueUnreadable"


def test_after_a_restart_nothing_is_decided_before_the_workloads_are_listed() -> None:
    world, name = queued(pendingTimeout="1h")
    hold(world, "spec.suspend", True)
    passes(world, 9 * HOUR)
    hold(world, "spec.suspend", False)
    known, world.workloads = world.workloads, {}
    world.kueue = ObservedKind(listed=False)
    world.settle()
    assert world.generation(2).status.verdict == "Pending"
    assert progress(world)[2] == "Workloads of Kueue are not listed yet"
    world.workloads, world.kueue = known, ObservedKind()
    world.settle()
    assert world.generation(2).status.verdict == "Pending"
    assert world.jobs[name].queue


def test_a_job_that_kueue_gave_up_needs_a_user() -> None:
    world, name = queued()
    said = "failed to start: conflicting node selectors"
    world._set(f"job-{name}", Finished=WorkloadCondition(True, "FailedToStart", said))
    world.settle()
    stalled = world.condition("Stalled")
    assert stalled.reason == "WorkloadFinished"
    assert stalled.message.startswith(f"Finished in Kueue: FailedToStart: {said}; ")
    del world.jobs[name]
    world.rounds()
    assert world.generation(2).status.training.attempt == 2
