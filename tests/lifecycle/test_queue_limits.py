"""Limits of a Job in a queue: activeDeadline, pendingTimeout and maxGpuSecondsPerDay."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lifecycle.queue_scenes import (
    HOUR,
    MINUTE,
    admit,
    hold,
    passes,
    preempted,
    progress,
    queued,
    runs,
)

from springtide_operator.lifecycle.state.observed import ObservedPod

GPU = "no node has a free nvidia.com/gpu: 0/1 nodes are available"


def test_the_time_of_all_admissions_counts_for_the_active_deadline() -> None:
    world, name = queued(full=False)
    for _ in range(2):
        runs(world, name, HOUR)
        preempted(world, name)
        passes(world, 9 * HOUR)
        admit(world)
    assert world.generation(2).status.reason == "DeadlineExceeded"
    assert world.generation(2).status.training.running_seconds == 7200


@pytest.mark.survives(
    "Queues",
    "a Job waits in the queue, and then its pod for a node, together for `pendingTimeout`",
    "the run is Failed with PendingTimeout; time in which the update was suspended does not count",
)
def test_the_pending_timeout_counts_the_queue_and_the_pod_together() -> None:
    world, name = queued(pendingTimeout="1h")
    passes(world, HOUR / 2)
    hold(world, "spec.suspend", True)
    passes(world, 9 * HOUR)
    hold(world, "spec.suspend", False)
    passes(world, HOUR / 2)
    admit(world)
    pod = ObservedPod("pod", "uid", world.now, waiting=GPU)
    world.jobs[name] = replace(world.jobs[name], pods=(pod,))
    passes(world, HOUR / 2 - MINUTE)
    assert world.generation(2).status.verdict == "Pending"
    passes(world, MINUTE)
    assert world.generation(2).status.reason == "PendingTimeout"


def test_the_pending_timeout_counts_from_a_preemption() -> None:
    world, name = queued(full=False, pendingTimeout="1h")
    passes(world, HOUR / 2)
    runs(world, name, HOUR / 2)
    preempted(world, name)
    passes(world, HOUR - MINUTE)
    assert world.generation(2).status.verdict == "Pending"
    passes(world, MINUTE)
    status = world.generation(2).status
    assert status.reason == "PendingTimeout"
    assert "it waited for 1h (training.compute.pendingTimeout)" in status.message
    assert name not in world.jobs


def test_a_preempted_pod_that_still_saves_its_checkpoint_does_not_wait() -> None:
    """Nor has it waited since its Job was created."""
    world, name = queued(full=False, pendingTimeout="1h", limits={"activeDeadline": "9h"})
    runs(world, name, 3 * HOUR)
    world.queue_admits, pods = 0, world.jobs[name].pods
    world.preempt(name)
    world.jobs[name] = replace(world.jobs[name], pods=pods)
    world.settle()
    assert progress(world)[1] == "Preempted in Kueue"
    assert world.generation(2).status.verdict == "Pending"
    world.jobs[name] = replace(world.jobs[name], pods=())
    passes(world, HOUR - MINUTE)
    assert world.generation(2).status.verdict == "Pending"
    passes(world, MINUTE)
    assert world.generation(2).status.reason == "PendingTimeout"


@pytest.mark.survives(
    "Queues",
    "`maxGpuSecondsPerDay` is used up while a preempted training waits in the queue",
    "its Workload is deactivated until enough GPU seconds are a day old, then activated",
)
def test_a_preempted_training_without_a_budget_is_not_admitted_again() -> None:
    limits = {"activeDeadline": "9h", "maxGpuSecondsPerDay": 3600}
    world, name = queued(full=False, limits=limits)
    runs(world, name, HOUR)
    preempted(world, name)
    workload = world.workload(name)
    assert (workload.active, workload.deactivated_by_us) == (False, True)
    admit(world)
    assert world.jobs[name].suspended
    assert world.update.status.progress.summary.startswith("GPU budget until")
    passes(world, 24 * HOUR)
    assert world.workload(name).active
    admit(world)
    assert not world.jobs[name].suspended


def test_a_training_that_runs_is_not_ended_for_its_budget() -> None:
    limits = {"activeDeadline": "9h", "maxGpuSecondsPerDay": 3600}
    world, name = queued(full=False, limits=limits)
    runs(world, name, 2 * HOUR)
    assert world.workload(name).active
    assert not world.jobs[name].suspended
