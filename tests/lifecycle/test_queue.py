"""training.compute.queueName: Kueue suspends and resumes Jobs; the operator follows its words."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lifecycle.queue_scenes import HOUR, MINUTE, admit, hold, passes, progress, queued, runs
from lifecycle.world import with_generation_one
from lifecycle.world_queue import NO_QUOTA

from springtide_operator.lifecycle.state.plan import SuspendJob


@pytest.mark.survives(
    "Queues",
    "the quota of the queue is used up",
    "training or evaluation waits, suspended; phase `Queued`, and PROGRESS has Kueue's own words",
)
@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_a_job_in_a_queue_waits_suspended_with_the_words_of_kueue(stage) -> None:
    world, name = queued(stage)
    job = world.jobs[name]
    assert (job.queue, job.suspended, job.suspended_by_us) == ("gpus", True, False)
    assert progress(world) == ("Queued", "Pending in Kueue", f"Pending in Kueue: {NO_QUOTA}")
    true = {c.type: c.status for c in world.update.status.conditions}
    assert (true["Ready"], true["ActionRequired"]) == ("True", "False")
    assert "Stalled" not in true


def test_an_admitted_training_runs_is_evaluated_through_the_queue_and_promoted() -> None:
    world, name = queued()
    admit(world)
    assert not world.jobs[name].suspended
    assert world.update.status.phase == "Training"
    world.rounds()
    assert world.generation(2).status.rollout.promoted_at
    stages = [run.run.stage for run in world.runs.values() if run.placement is not None]
    assert {run.placement.queue_name for run in world.runs.values() if run.placement} == {
        None,
        "gpus",
    }
    assert set(stages) == {"train", "evaluate"}, "probes and imports wait in no queue"


def test_before_kueue_has_a_workload_the_job_waits_for_it() -> None:
    world, _ = queued()
    world.workloads.clear()
    world.settle()
    assert progress(world)[1] == "No Workload in Kueue"


@pytest.mark.survives(
    "Queues",
    "`queueName` is edited while a Job waits in the queue",
    "a new attempt of the same run in the other queue, not counted; a Job that runs stays",
)
@pytest.mark.parametrize("wanted", ["other", None])
@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_a_job_that_waits_moves_to_the_queue_of_an_edited_spec(stage, wanted) -> None:
    world, name = queued(stage)
    world.edit(training={"compute": {"gpusPerNode": 1} | ({"queueName": wanted} if wanted else {})})
    world.settle()
    (again,) = (n for n in world.jobs if f"-g2-{stage}-" in n)
    assert again != name
    assert world.jobs[again].queue == (wanted or "")
    run = getattr(world.generation(2).status, "training" if stage == "train" else "evaluation")
    assert (run.attempt, run.failed_attempts) == (2, 0)
    admit(world)
    world.rounds()
    assert world.generation(2).status.rollout.promoted_at


def test_a_job_that_runs_keeps_its_queue() -> None:
    world, name = queued(full=False)
    runs(world, name, MINUTE)
    world.edit(training={"compute": {"gpusPerNode": 1, "queueName": "other"}})
    world.settle()
    assert world.jobs[name].queue == "gpus"


def test_a_job_of_a_default_queue_is_not_resumed_by_the_operator() -> None:
    """Kueue labels Jobs without a queue where the namespace has a LocalQueue named default."""
    world = with_generation_one()
    actions = []
    world.on_action = lambda seen, action: actions.append(action)
    world.months.append("2025-03")
    while not (found := [name for name in world.jobs if "-g2-train-" in name]):
        world.round()
    name = found[0]
    changes = {"queue": "default", "suspended": True, "suspended_at": world.now}
    world.jobs[name] = replace(world.jobs[name], **changes)
    world.queue_admits = 0
    passes(world, HOUR)
    assert progress(world)[1] == "Pending in Kueue"
    hold(world, "spec.suspend", True)
    hold(world, "spec.suspend", False)
    assert not [action for action in actions if isinstance(action, SuspendJob)]
    admit(world)
    world.rounds()
    assert world.generation(2).status.rollout.promoted_at
