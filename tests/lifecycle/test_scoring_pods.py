"""data.window.rowsPerShard: an evaluation is an Indexed Job whose pods share the holdout."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.invariants import Invariants
from lifecycle.passing_time import passes, runs
from lifecycle.world import World, with_generation_one

from springtide_api.update.data import MAX_SHARD_PODS, Window

HOUR = timedelta(hours=1)
NO_GPU = "no node has a free nvidia.com/gpu: 0/1 nodes are available"


def scoring(pods: int = 3, **compute: object) -> tuple[World, str]:
    """A world whose generation 2 is evaluated by so many pods, and the name of its Job."""
    world = with_generation_one()
    Invariants(world)
    compute = {"gpusPerNode": 1, **compute}
    world.edit(
        training={"compute": compute, "limits": {"activeDeadline": "2h"}},
        data={**world.spec["data"], "window": {"rowsPerShard": 1000}},
    )
    world.rows_of_a_month = 1000 * pods - 500
    world.months.append("2025-03")
    while not (found := evaluations(world)):
        world.round()
    world.settle()
    return world, found[0]


def evaluations(world: World) -> list[str]:
    return [name for name in world.job_names_ever if "-g2-evaluate-" in name]


def only(world: World, name: str, *running: int) -> None:
    """Of the pods of a Job only these run; the others wait for a GPU."""
    world.begin(name)
    job = world.jobs[name]
    pods = tuple(
        pod if pod.index in running else replace(pod, running=False, started=None, waiting=NO_GPU)
        for pod in job.pods
    )
    for pod in job.pods:
        if pod.index not in running:
            del world.ran[pod.uid]
    world.jobs[name] = replace(job, pods=pods)
    world.settle()


def test_the_rows_of_the_holdout_say_how_many_pods_score() -> None:
    assert Window().pods_for(10**9) == 1
    window = Window(rows_per_shard=1000)
    found = [window.pods_for(rows) for rows in (0, 1, 1000, 1001, 31_001, 10**9)]
    assert found == [1, 1, 1, 2, 32, MAX_SHARD_PODS]


def test_an_evaluation_of_many_rows_has_several_pods_and_its_generation_is_promoted() -> None:
    world, name = scoring()
    job = world.jobs[name]
    assert (job.nodes, job.gpus, job.is_job_set) == (3, 1, False)
    assert {each.nodes for each in world.jobs.values() if each.stage != "evaluate"} <= {1}
    world.rounds()
    assert world.generation(2).status.rollout.promoted_at
    assert name not in world.jobs


def test_an_edit_does_not_change_how_many_pods_a_running_evaluation_has() -> None:
    world, name = scoring()
    world.edit(data={**world.spec["data"], "window": {}})
    runs(world, name, HOUR / 60)
    world.fail(name, 137, node=2)
    passes(world, HOUR / 60)
    assert evaluations(world) == [name, f"{name[:-1]}2"]
    assert world.jobs[f"{name[:-1]}2"].nodes == 3


def test_gpu_seconds_are_those_of_every_pod() -> None:
    world, name = scoring()
    runs(world, name, HOUR)
    world.succeed(name, world._result(world.runs[name]))
    world.settle()
    assert world.generation(2).status.evaluation.gpu_seconds == 3 * 3600


def test_the_result_of_the_first_pod_counts_while_another_still_scores() -> None:
    world, name = scoring()
    runs(world, name, HOUR)
    world.end_first_pod(name)
    world.settle()
    assert world.generation(2).status.verdict == "Accepted"
    assert name not in world.jobs


@pytest.mark.survives(
    "Jobs and pods",
    "some pods of an evaluation in shards get no node",
    "the others score on; the time counts as running, and `pendingTimeout` does not end it",
)
@pytest.mark.parametrize("runs_alone", [0, 2])
def test_an_evaluation_runs_while_one_of_its_pods_does(runs_alone) -> None:
    world, name = scoring(pendingTimeout="30m")
    only(world, name, runs_alone)
    passes(world, HOUR)
    assert world.update.status.phase == "Evaluating"
    assert world.generation(2).status.verdict == "Pending"
    assert evaluations(world) == [name]


def test_a_first_pod_that_gets_no_node_waits_from_the_end_of_the_others() -> None:
    world, name = scoring(pendingTimeout="30m")
    only(world, name, 1, 2)
    passes(world, HOUR)
    job = world.jobs[name]
    ended = tuple(
        replace(pod, running=False, exit_code=0, ended=world.now) if pod.index else pod
        for pod in job.pods
    )
    for pod in ended[1:]:
        world.ran[pod.uid] = (*world.ran[pod.uid][:2], world.now)
    world.jobs[name] = replace(job, pods=ended)
    world.settle()
    assert world.update.status.phase == "Queued"
    assert world.update.status.progress.waiting_for == NO_GPU
    passes(world, HOUR / 4)
    assert world.generation(2).status.verdict == "Pending"
    passes(world, HOUR / 4)
    assert world.generation(2).status.reason == "PendingTimeout"


@pytest.mark.survives(
    "Jobs and pods",
    "a pod of an evaluation in shards fails",
    "the attempt ends with its reason; the next one scores what is missing",
)
@pytest.mark.parametrize("node", [0, 2])
def test_a_pod_that_fails_ends_the_attempt_with_its_reason(node) -> None:
    world, name = scoring()
    runs(world, name, HOUR)
    world.fail(name, 137, node=node)
    passes(world, HOUR / 60)
    evaluation = world.generation(2).status.evaluation
    assert (evaluation.attempt, evaluation.failed_attempts) == (2, 1)
    assert f"{name}-x{node or ''} ended with exit code 137" in evaluation.last_failure
    world.rounds()
    assert world.generation(2).status.rollout.promoted_at


def test_a_pod_that_ended_well_is_not_why_its_job_failed() -> None:
    world, name = scoring()
    runs(world, name, HOUR)
    world.fail(name, 137, node=2)
    job = world.jobs[name]
    well = tuple(replace(pod, exit_code=0) if pod.index == 1 else pod for pod in job.pods)
    earlier = replace(well[1], ended=world.now - HOUR / 2)
    world.jobs[name] = replace(job, pods=(well[0], earlier, well[2]))
    world.ran[earlier.uid] = (*world.ran[earlier.uid][:2], earlier.ended)
    passes(world, HOUR / 60)
    assert "-x2 ended with" in world.generation(2).status.evaluation.last_failure


def test_a_disrupted_pod_is_an_attempt_that_does_not_count() -> None:
    world, name = scoring()
    runs(world, name, HOUR)
    world.fail(name, 137, node=1, disrupted=True)
    passes(world, HOUR / 60)
    evaluation = world.generation(2).status.evaluation
    assert (evaluation.attempt, evaluation.failed_attempts) == (2, 0)


def test_the_active_deadline_counts_the_time_of_all_pods_once() -> None:
    world, name = scoring()
    runs(world, name, 1.9 * HOUR)
    assert world.generation(2).status.verdict == "Pending"
    passes(world, HOUR / 5)
    assert world.generation(2).status.reason == "DeadlineExceeded"


def test_a_suspended_update_suspends_the_job_and_resumes_the_same() -> None:
    world, name = scoring()
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
    evaluation = world.generation(2).status.evaluation
    assert (evaluation.attempt, evaluation.gpu_seconds) == (1, 3 * 5400)


def test_the_most_pods_fit_a_status_also_after_a_suspension() -> None:
    world, name = scoring(pods=100)
    assert world.jobs[name].nodes == MAX_SHARD_PODS
    runs(world, name, HOUR / 2)
    world.edit(suspend=True)
    world.settle()
    world.edit(suspend=False)
    world.settle()
    runs(world, name, HOUR / 2)
    world.succeed(name, world._result(world.runs[name]))
    world.settle()
    status = world.generation(2).status
    assert status.evaluation.gpu_seconds == MAX_SHARD_PODS * 3600
    assert len(status.model_dump_json(by_alias=True, exclude_none=True)) < 32 * 1024
