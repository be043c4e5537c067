"""Workloads that are deactivated: by the operator for a held update, by Kueue, or by a user."""

from __future__ import annotations

import pytest
from lifecycle.queue_scenes import HOUR, admit, hold, passes, queued, runs
from lifecycle.world_queue import REQUEUES_USED_UP


@pytest.mark.parametrize("held", ["spec.suspend", "spec.rollout.pin"])
def test_a_held_update_deactivates_the_workload_and_activates_it_again(held) -> None:
    world, name = queued(full=False)
    runs(world, name, HOUR)
    hold(world, held, True)
    workload = world.workload(name)
    assert (workload.active, workload.deactivated_by_us) == (False, True)
    assert not world.jobs[name].suspended, "Kueue suspends it"
    world.run_kueue()
    world.settle()
    assert "SuspendedByKueue" not in world.events, "the operator asked for it"
    assert (world.jobs[name].suspended, world.jobs[name].suspended_by_us) == (True, False)
    passes(world, 50 * HOUR)
    hold(world, held, False)
    workload = world.workload(name)
    assert (workload.active, workload.deactivated_by_us, workload.resumed) == (
        True,
        False,
        world.now,
    )
    admit(world)
    assert not world.jobs[name].suspended
    assert world.generation(2).status.training.attempt == 1


@pytest.mark.survives(
    "Queues",
    "an update is suspended before Kueue has a Workload for its Job, or while the Job waits",
    "the Workload is deactivated as soon as it is there, and no pod starts",
)
@pytest.mark.parametrize("there", [True, False])
def test_a_job_that_waits_is_deactivated_too(there) -> None:
    world, name = queued()
    if not there:
        world.workloads.clear()
    world.edit(suspend=True)
    world.settle()
    world.queue_admits = 9
    world.run_kueue()
    world.settle()
    world.run_kueue()
    world.settle()
    assert world.jobs[name].suspended
    assert world.workload(name).deactivated_by_us
    assert world.update.status.phase == "Suspended"


@pytest.mark.survives(
    "Queues",
    "Kueue deactivates a Workload: its retries are used up, an admission check rejects it",
    "it is never activated by the operator; the update is Stalled with Kueue's words until a user "
    "activates the Workload",
)
@pytest.mark.parametrize("suspended", [True, False])
def test_what_kueue_deactivated_is_activated_by_a_user_alone(suspended) -> None:
    world, name = queued()
    world.deactivate_by_kueue(name)
    world.settle()
    if suspended:
        hold(world, "spec.suspend", True)
        hold(world, "spec.suspend", False)
    stalled = world.condition("Stalled")
    assert stalled.reason == "WorkloadDeactivated"
    assert stalled.message.startswith(
        f"Deactivated in Kueue: Workload job-{name}: {REQUEUES_USED_UP}; "
    )
    assert not world.workload(name).active
    world.activate_by_user(name)
    world.settle()
    assert world.condition("Stalled") is None
    admit(world)
    world.rounds()
    assert world.generation(2).status.rollout.promoted_at


def test_a_workload_that_a_user_activates_during_a_suspension_is_deactivated_again() -> None:
    world, name = queued()
    hold(world, "spec.suspend", True)
    world.activate_by_user(name)
    world.settle()
    assert not world.workload(name).active


def test_a_mark_that_a_user_left_behind_does_not_activate_what_kueue_deactivates_later() -> None:
    world, name = queued()
    hold(world, "spec.suspend", True)
    world.edit(suspend=False)
    world.activate_by_user(name)
    world.settle()
    assert not world.workload(name).deactivated_by_us
    world.deactivate_by_kueue(name)
    world.settle()
    assert world.condition("Stalled").reason == "WorkloadDeactivated"
