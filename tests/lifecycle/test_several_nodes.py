"""training.compute.nodes: a training is a JobSet, decided as a Job is; one pod's end is all's."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.invariants import Invariants
from lifecycle.passing_time import passes, runs
from lifecycle.world import World, with_generation_one

from springtide_operator.lifecycle.queues.observed import ObservedKind

HOUR = timedelta(hours=1)
MISSING = ObservedKind(
    listed=False,
    unavailable="the API server does not serve jobsets of jobset.x-k8s.io; install a version of "
    "JobSet that serves v1alpha2, such as 0.10",
    served=False,
)


def declared(**compute: object) -> World:
    """A world on generation 1 whose next training has two nodes, with new data."""
    world = with_generation_one()
    Invariants(world)
    compute = {"nodes": 2, "gpusPerNode": 2, **compute}
    world.edit(training={"compute": compute, "limits": {"activeDeadline": "2h"}})
    world.months.append("2025-03")
    return world


def on_two_nodes(**compute: object) -> tuple[World, str]:
    """The same with the JobSet of generation 2, and its name."""
    world = declared(**compute)
    while not (found := trainings(world)):
        world.round()
    world.settle()
    return world, found[0]


def trainings(world: World) -> list[str]:
    return [name for name in world.job_names_ever if "-g2-train-" in name]


def test_a_training_on_two_nodes_is_a_job_set_and_is_promoted() -> None:
    world, name = on_two_nodes()
    assert world.jobs[name].nodes == 2
    assert {job.nodes for job in world.jobs.values() if job.stage != "train"} <= {1}
    world.rounds()
    assert world.generation(2).status.rollout.promoted_at
    assert name not in world.jobs, "deleted once its result is in status"


def test_a_deleted_job_set_is_called_one_and_the_next_attempt_starts() -> None:
    world, name = on_two_nodes()
    del world.jobs[name]
    world.settle()
    training = world.generation(2).status.training
    assert training.last_failure == f"JobSet {name} was deleted by another client"
    assert trainings(world)[1:] == [training.job]


def test_time_of_pods_that_run_together_counts_once_and_gpus_of_each() -> None:
    world, name = on_two_nodes()
    runs(world, name, HOUR)
    world.succeed(name, world._result(world.runs[name]))
    world.settle()
    training = world.generation(2).status.training
    assert (training.running_seconds, training.gpu_seconds) == (3600, 4 * 3600)


@pytest.mark.survives(
    "Several nodes",
    "the first pod of a training on several nodes ends with the result while another, which began "
    "earlier, is still reported as running",
    "the GPU seconds of both count, up to when the result is recorded",
)
def test_a_pod_that_runs_on_when_the_first_has_the_result_has_used_its_gpu() -> None:
    world, name = on_two_nodes(gpusPerNode=1)
    world.begin(name)
    first, second = world.jobs[name].pods
    late = replace(first, running=False, started=None)
    world.jobs[name] = replace(world.jobs[name], pods=(late, second))
    passes(world, HOUR / 2)
    begun = replace(first, started=world.now)
    world.jobs[name] = replace(world.jobs[name], pods=(begun, second))
    passes(world, HOUR)
    world.end_first_pod(name)
    world.settle()
    training = world.generation(2).status.training
    assert (training.running_seconds, training.gpu_seconds) == (5400, 5400 + 3600)
    assert name not in world.jobs


def test_a_pod_that_waited_for_another_in_vain_has_used_its_gpus() -> None:
    world, name = on_two_nodes(pendingTimeout="1h")
    world.begin(name)
    first, second = world.jobs[name].pods
    late = replace(second, running=False, started=None, waiting="no node fits")
    world.jobs[name] = replace(world.jobs[name], pods=(first, late))
    world.settle()
    passes(world, HOUR)
    status = world.generation(2).status
    assert (status.reason, status.gpu_seconds) == ("PendingTimeout", 2 * 3600)


def test_the_active_deadline_counts_the_time_of_both_pods_once() -> None:
    world, name = on_two_nodes()
    runs(world, name, 1.9 * HOUR)
    assert world.generation(2).status.verdict == "Pending"
    passes(world, HOUR / 5)
    assert world.generation(2).status.reason == "DeadlineExceeded"


@pytest.mark.survives(
    "Several nodes",
    "a pod of a training on several nodes fails, and the others lose it",
    "the attempt ends with the reason of that pod; the next is a new JobSet that resumes",
)
@pytest.mark.parametrize("node", [0, 1])
def test_the_pod_that_failed_first_gives_the_reason(node) -> None:
    world, name = on_two_nodes()
    runs(world, name, HOUR)
    world.fail(name, 42, node=node)
    passes(world, HOUR / 60)
    training = world.generation(2).status.training
    assert (training.attempt, training.failed_attempts, training.batch_divisor) == (2, 1, 2)
    assert f"{name}-x{node or ''} ran out of memory" in training.last_failure
    assert trainings(world) == [name, f"{name[:-1]}2"]


@pytest.mark.survives(
    "Several nodes",
    "a pod of a training on several nodes is evicted or preempted",
    "a new attempt, which is not counted",
)
def test_a_disrupted_pod_is_an_attempt_that_does_not_count() -> None:
    world, name = on_two_nodes()
    runs(world, name, HOUR)
    world.fail(name, 137, node=1, disrupted=True)
    passes(world, HOUR / 60)
    training = world.generation(2).status.training
    assert (training.attempt, training.failed_attempts) == (2, 0)


def test_an_attempt_waits_while_one_of_its_pods_does() -> None:
    world, name = on_two_nodes(pendingTimeout="3h")
    world.begin(name)
    job = world.jobs[name]
    why = "no node has a free nvidia.com/gpu: 0/1 nodes are available"
    late = replace(job.pods[1], running=False, started=None, waiting=why)
    world.jobs[name] = replace(job, pods=(job.pods[0], late))
    world.settle()
    assert world.update.status.phase == "Queued"
    assert world.update.status.progress.waiting_for == why


def test_a_message_names_the_kind_that_a_user_finds_by_it() -> None:
    world, name = on_two_nodes()
    world.suspend_by_another(name)
    world.settle()
    assert world.update.status.progress.waiting_for.startswith(f"JobSet {name} was suspended")


def test_a_suspended_update_suspends_the_job_set_and_resumes_the_same() -> None:
    world, name = on_two_nodes()
    runs(world, name, HOUR)
    world.edit(suspend=True)
    world.settle()
    assert (world.jobs[name].suspended, world.jobs[name].suspended_by_us) == (True, True)
    passes(world, 9 * HOUR)
    world.edit(suspend=False)
    world.settle()
    runs(world, name, HOUR / 2)
    world.succeed(name, world._result(world.runs[name]))
    world.settle()
    training = world.generation(2).status.training
    assert (training.attempt, training.running_seconds) == (1, 5400)


@pytest.mark.survives(
    "Several nodes",
    "JobSet is not installed",
    "only updates with `nodes` above 1 are `Stalled/JobSetMissing`, with what to install; what "
    "they serve stays, and they go on by themselves once it is installed",
)
def test_without_job_set_only_updates_that_need_it_are_stalled_and_go_on_by_themselves() -> None:
    world = declared()
    world.job_sets = MISSING
    world.rounds(4)
    stalled, ready = world.condition("Stalled"), world.condition("Ready")
    assert (stalled.reason, ready.status) == ("JobSetMissing", "False")
    assert stalled.message == (
        f"JobSet is missing: {MISSING.unavailable}; or set training.compute.nodes to 1"
    )
    assert world.condition("Serving").status == "True"
    assert (trainings(world), world.plan.wake_after <= timedelta(seconds=30)) == ([], True)
    world.job_sets = ObservedKind()
    world.rounds(12)
    assert world.condition("Stalled") is None
    assert world.generation(2).status.rollout.promoted_at

    other = with_generation_one()
    other.job_sets = MISSING
    other.months.append("2025-03")
    other.rounds(12)
    assert other.condition("Stalled") is None
    assert other.generation(2).status.rollout.promoted_at


@pytest.mark.survives(
    "Several nodes",
    "JobSet is removed while a training runs, and its JobSets with it",
    "the update is `Stalled/JobSetMissing`; once it is back, the next attempt resumes",
)
def test_a_training_whose_kind_is_removed_waits_for_it() -> None:
    world, name = on_two_nodes()
    runs(world, name, HOUR)
    world.job_sets = MISSING
    world._end_pods(name)
    del world.jobs[name]
    world.settle()
    for _ in range(3):
        passes(world, HOUR)
    training = world.generation(2).status.training
    assert world.condition("Stalled").reason == "JobSetMissing"
    assert (training.attempt, training.failed_attempts) == (1, 0)
    assert {pod.ended_at - pod.started_at for pod in training.pods} == {HOUR}
    world.job_sets = ObservedKind()
    world.rounds(12)
    assert trainings(world) == [name, f"{name[:-1]}2"]
    assert world.generation(2).status.rollout.promoted_at


def test_one_node_ends_the_wait_for_a_job_set_that_is_missing() -> None:
    world, _ = on_two_nodes()
    world.job_sets = MISSING
    world.settle()
    world.edit(training={"compute": {"nodes": 1}})
    world.rounds(12)
    assert world.generation(2).status.reason == "SpecChanged"
    assert world.condition("Stalled") is None
    assert world.update.status.live.number == 3


def test_after_a_restart_nothing_is_decided_before_the_job_sets_are_listed() -> None:
    world, name = on_two_nodes()
    job = world.jobs.pop(name)
    world.job_sets = ObservedKind(listed=False)
    world.settle()
    assert world.update.status.progress.waiting_for == "JobSets are not listed yet"
    assert world.condition("Stalled") is None
    world.jobs[name], world.job_sets = job, ObservedKind()
    world.rounds()
    assert trainings(world) == [name]
    assert world.generation(2).status.rollout.promoted_at
