"""How things end: history and weights are collected, updates deleted, waiting pods given up."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.world import World

from springtide_operator.lifecycle.state.observed import ObservedPod
from springtide_operator.lifecycle.state.plan import StartJob


@pytest.mark.survives(
    "Jobs and pods",
    "no node has room for a pod",
    "the scheduler's message in status; it continues by itself when there is room",
)
def test_an_unschedulable_pod_is_reported_with_its_reason_and_continues_when_it_is_scheduled() -> (
    None
):
    world = World()
    world.settle()
    name = next(iter(world.jobs))
    said = "no node has a free nvidia.com/gpu: 0/1 nodes are available"
    pod = ObservedPod("pod", "uid", world.now, waiting=said)
    world.jobs[name] = replace(world.jobs[name], pods=(pod,))
    plan = world.settle()

    assert plan.status.phase == "Queued"
    assert plan.status.progress.summary == "no node has a free nvidia.com/gpu"
    assert plan.status.progress.waiting_for == said
    assert plan.wake_after == timedelta(seconds=30)


@pytest.mark.survives(
    "Jobs and pods",
    "no node has room for longer than `pendingTimeout`",
    "given up with the reason and the limit",
)
def test_a_pod_that_waits_longer_than_its_pending_timeout_fails() -> None:
    world = World()
    world.edit(training={"compute": {"pendingTimeout": "10m"}})
    world.settle()
    name = next(iter(world.jobs))
    pod = ObservedPod("pod", "uid", world.now, waiting="no node fits: too small")
    world.jobs[name] = replace(world.jobs[name], pods=(pod,))
    world.settle()
    world.now += timedelta(minutes=11)
    world.settle()
    assert world.generation(0).status.reason == "PendingTimeout"
    assert "training.compute.pendingTimeout" in world.generation(0).status.message


@pytest.mark.survives(
    "Model",
    "the import of the initial model fails",
    "`ImportFailed` says why; `retry` imports again",
)
def test_a_failed_import_waits_for_a_user_and_retry_imports_again() -> None:
    world = World()
    world.settle()
    world.fail(next(iter(world.jobs)), 3, reason="UnsafeArtifact")
    world.settle()
    stalled = next(c for c in world.update.status.conditions if c.type == "Stalled")
    assert stalled.reason == "ImportFailed"
    assert "UnsafeArtifact" in stalled.message
    world.ask("retry@1")
    world.rounds(3)
    assert world.generation(1).spec.origin == "Imported"
    assert world.generation(1).status.artifact is not None


def test_gpus_are_requested_for_training_and_evaluation_alone() -> None:
    world = World()
    world.edit(training={"compute": {"gpusPerNode": 4}})
    world.settle()
    world.months = ["2025-01", "2025-02"]
    world.rounds(8)
    gpus = {start.run.stage: start.gpus for start in world.runs.values()}
    assert gpus == {"import": 0, "probe": 0, "train": 4, "evaluate": 1}
    assert all(isinstance(start, StartJob) for start in world.runs.values())
