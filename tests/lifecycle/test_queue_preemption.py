"""Kueue preempts a training: its Job, its attempt and its checkpoint stay."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lifecycle.queue_scenes import HOUR, MINUTE, admit, passes, preempted, progress, queued, runs
from lifecycle.world_queue import NO_QUOTA, PREEMPTED

from springtide_operator.lifecycle.state.observed import ObservedProgress


@pytest.mark.survives(
    "Queues",
    "Kueue preempts a training for a workload of a higher priority",
    "Job and attempt stay and nothing is counted as a failure; it goes on once it is admitted "
    "again, and the time in the queue is no running time",
)
def test_a_preempted_training_keeps_its_job_and_its_attempt() -> None:
    world, name = queued(full=False)
    runs(world, name, HOUR)
    preempted(world, name)
    assert progress(world) == ("Queued", "Preempted in Kueue", f"Preempted in Kueue: {PREEMPTED}")
    assert world.events[-1] == "SuspendedByKueue"
    assert world.event_messages[-1] == f"Job {name}: Preempted: {PREEMPTED}"
    for _ in range(50):
        passes(world, HOUR)
    waits = f"Preempted in Kueue: {PREEMPTED}; {NO_QUOTA}"
    assert progress(world) == ("Queued", "Preempted in Kueue", waits)
    admit(world)
    runs(world, name, HOUR / 2)
    training = world.generation(2).status.training
    assert (training.job, training.attempt, training.failed_attempts) == (name, 1, 0)
    world.succeed(name, world._result(world.runs[name]))
    world.settle()
    training = world.generation(2).status.training
    assert (training.running_seconds, training.gpu_seconds) == (5400, 5400)
    world.rounds()
    assert world.generation(2).status.rollout.promoted_at


def test_a_preemption_that_is_known_later_than_the_end_of_the_pods_is_an_event_once() -> None:
    """The watches of Jobs and of Workloads are two: the one of Workloads may be behind."""
    world, name = queued(full=False)
    runs(world, name, HOUR)
    before = dict(world.workloads)
    world.queue_admits = 0
    world.preempt(name)
    after, world.workloads = world.workloads, before
    world.settle()
    assert "SuspendedByKueue" not in world.events
    world.workloads = after
    passes(world, MINUTE)
    passes(world, HOUR)
    assert world.events.count("SuspendedByKueue") == 1
    assert f"Job {name}: Preempted: {PREEMPTED}" in world.event_messages


def test_the_progress_of_an_earlier_admission_is_not_shown_for_a_later_one() -> None:
    world, name = queued(full=False)
    world.begin(name)
    reports: dict[str, ObservedProgress] = {}
    world.seen = lambda seen=world.seen: replace(seen(), progress=reports)
    reports[name] = ObservedProgress(40, 60, (), world.now)
    world.settle()
    assert progress(world)[1] == "Train 40%, 60s left"
    passes(world, HOUR)
    preempted(world, name)
    passes(world, HOUR)
    admit(world)
    assert not world.jobs[name].suspended
    assert progress(world)[1] == "Train starting"
    assert world.update.status.progress.percent is None
    runs(world, name, MINUTE)
    assert progress(world)[1] == "Train starting"
    reports[name] = ObservedProgress(41, 60, (), world.now)
    passes(world, MINUTE)
    assert progress(world)[1] == "Train 41%, 60s left"


def test_a_preempted_training_is_not_given_up_for_pods_of_an_edited_spec() -> None:
    """Its checkpoint belongs to the snapshot, also after a restart that lost the progress."""
    world, name = queued(full=False)
    runs(world, name, HOUR / 2)
    preempted(world, name)
    compute = {"queueName": "gpus", "gpusPerNode": 1, "resources": {"memory": "16Gi"}}
    world.edit(training={"compute": compute, "limits": {"activeDeadline": "2h"}})
    world.settle()
    assert world.generation(2).status.verdict == "Pending"
    assert name in world.jobs
