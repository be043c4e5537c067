"""data.window.rowsPerShard: pods without a GPU tokenize the rows of a training before it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.invariants import Invariants
from lifecycle.passing_time import passes, runs
from lifecycle.world import World, with_generation_one
from lifecycle.world_queue import MISSING

from springtide_operator.lifecycle.queues.observed import ObservedKind
from springtide_operator.lifecycle.state.observed import ObservedPod

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
DAY = timedelta(days=1)
NO_CPU = "no node has a free cpu: 0/3 nodes are available: 3 Insufficient cpu"
FAILED = "TokenizeFailed"


def about_to_tokenize(pods: int = 3, **compute: object) -> World:
    """A world with generation 1, whose next training has rows for so many pods."""
    world = with_generation_one()
    Invariants(world)
    world.edit(
        training={"compute": {"gpusPerNode": 1, **compute}},
        data={**world.spec["data"], "window": {"rowsPerShard": 1000}},
    )
    world.training_rows_of_a_month = 1000 * pods - 500
    world.months.append("2025-03")
    return world


def tokenizing(pods: int = 3, **compute: object) -> tuple[World, str]:
    """A world in which so many pods tokenize for generation 2, and the name of their Job."""
    world = about_to_tokenize(pods, **compute)
    while not (found := ever(world)):
        world.round()
    world.settle()
    return world, found[0]


def ever(world: World, stage: str = "tokenize", number: int = 2) -> list[str]:
    """Names of the Jobs of a stage, one for each that was ever created."""
    return [name for name in world.job_names_ever if f"-g{number}-{stage}-" in name]


def trains(world: World) -> bool:
    """Whether the training has begun, and no pod tokenizes for it."""
    stages = {job.stage for job in world.jobs.values()}
    return world.generation(2).status.training is not None and stages == {"train"}


def failures(world: World) -> list[str]:
    """Messages of the Events that rows were left to a training."""
    there = zip(world.events, world.event_messages, strict=True)
    return [message for reason, message in there if reason == FAILED]


def waits(world: World, name: str, why: str = NO_CPU, *, but: int = 0) -> None:
    """The pods of a Job wait for a node, but for so many that run."""
    world.begin(name)
    job = world.jobs[name]
    pods = [
        pod if pod.index < but else replace(pod, running=False, started=None, waiting=why)
        for pod in job.pods
    ]
    for pod in pods:
        if not pod.running:
            del world.ran[pod.uid]
    world.jobs[name] = replace(job, pods=tuple(pods))
    world.settle()


@pytest.mark.survives(
    "Jobs and pods",
    "a training has more rows than `data.window.rowsPerShard`",
    "an Indexed Job of pods without a GPU tokenizes them first; the training begins when it ends",
)
def test_several_pods_tokenize_before_a_training_which_begins_when_they_are_done() -> None:
    world, name = tokenizing()
    job, status = world.jobs[name], world.update.status
    assert (job.nodes, job.gpus, job.is_job_set) == (3, 0, False)
    assert world.generation(2).status.training is None
    assert (status.phase, status.progress.stage) == ("Training", "Tokenize")
    assert status.progress.summary == "3 pods tokenize 2,500 rows"
    asked = world.runs[name].run
    runs(world, name, HOUR)
    assert not ever(world, "train")
    world.complete_jobs()
    world.settle()
    assert trains(world)
    (training,) = (world.runs[each].run for each in ever(world, "train"))
    assert asked.result == training.result, "a late pod sees that the training is over"
    assert failures(world) == []
    world.rounds()
    assert world.generation(2).status.rollout.promoted_at
    assert ever(world) == [name]
    assert world.update.status.counters.gpu_seconds == 0


def test_rows_that_fit_one_shard_are_tokenized_by_the_training() -> None:
    world = about_to_tokenize(1)
    world.training_rows_of_a_month = 1000
    world.rounds()
    assert world.generation(2).status.rollout.promoted_at
    assert not ever(world)


def test_without_shards_the_training_tokenizes_all_rows() -> None:
    world = about_to_tokenize(100)
    world.edit(data={**world.spec["data"], "window": {}})
    world.rounds()
    assert world.generation(2).status.rollout.promoted_at
    assert not ever(world)


def test_an_import_has_no_rows() -> None:
    world = World()
    world.edit(data={**world.spec["data"], "window": {"rowsPerShard": 1000}})
    world.rounds(4)
    assert world.generation(0).status.artifact
    assert not ever(world, number=0)


def test_at_most_so_many_pods_tokenize_as_score() -> None:
    world, name = tokenizing(100)
    assert world.jobs[name].nodes == 32


@pytest.mark.survives(
    "Jobs and pods",
    "a pod that tokenizes before a training fails, also because its image does not know the stage",
    "the training begins and tokenizes what is missing; an Event says why",
)
@pytest.mark.parametrize(
    ("node", "code", "reason"), [(1, 137, ""), (0, 1, ""), (2, 3, "InvalidRunFile")]
)
def test_a_training_begins_and_an_event_says_why_where_a_pod_that_tokenizes_fails(
    node: int, code: int, reason: str
) -> None:
    world, name = tokenizing()
    runs(world, name, MINUTE)
    world.fail(name, code, reason=reason, node=node)
    world.settle()
    assert trains(world)
    (message,) = failures(world)
    pod = f"{name}-x{node or ''}"
    why = f"because of {reason}" if reason else f"pod {pod} ended with exit code {code}"
    assert message.startswith(f"Job {name} did not tokenize all rows: {why}")
    assert message.endswith("; the training tokenizes the others")
    world.rounds()
    assert world.generation(2).status.rollout.promoted_at
    assert ever(world) == [name]


def test_a_pod_that_ran_out_of_memory_while_it_tokenized_is_named() -> None:
    world, name = tokenizing()
    runs(world, name, MINUTE)
    world.fail(name, 137, node=2)
    job = world.jobs[name]
    pods = (*job.pods[:2], replace(job.pods[2], out_of_memory=True))
    world.jobs[name] = replace(job, pods=pods)
    world.settle()
    (message,) = failures(world)
    assert f"pod {name}-x2 ran out of memory" in message


def test_a_job_that_failed_without_a_pod_says_what_its_controller_says() -> None:
    world, name = tokenizing()
    why = "DeadlineExceeded: Job was active longer than specified deadline"
    ended = {"failed": True, "finished": world.now, "failure": why}
    world.jobs[name] = replace(world.jobs[name], **ended)
    world.settle()
    assert trains(world)
    assert why in failures(world)[0]


@pytest.mark.survives(
    "Jobs and pods",
    "a user deletes the Job that tokenizes before a training while it runs",
    "it is created again, and goes on with what is missing",
)
def test_a_job_that_a_user_deletes_is_created_again() -> None:
    world, name = tokenizing()
    runs(world, name, MINUTE)
    world.delete_job(name)
    world.settle()
    assert ever(world) == [name, name]
    assert not trains(world)
    world.complete_jobs()
    world.settle()
    assert trains(world)
    assert failures(world) == []


def test_a_job_whose_deletion_hangs_keeps_no_training_from_its_gpus() -> None:
    world, name = tokenizing()
    world.jobs[name] = replace(world.jobs[name], deleting=True)
    world.settle()
    assert ever(world, "train")
    assert ever(world) == [name]


def test_a_job_that_is_not_seen_yet_is_created_once() -> None:
    world, name = tokenizing()
    uid = world.jobs[name].uid
    world.decide_on_old_observation()
    world.repeat()
    world.settle()
    assert ever(world) == [name]
    assert world.jobs[name].uid == uid


@pytest.mark.parametrize("written", [0, 1, 2])
def test_an_operator_that_ends_where_the_training_begins_leaves_one_job_of_each(
    written: int,
) -> None:
    world, name = tokenizing()
    world.now += MINUTE
    world.complete_jobs()
    world.crash_after(written)
    world.settle()
    assert trains(world)
    assert ever(world) == [name]
    assert len(ever(world, "train")) == 1


def test_an_operator_that_ends_before_it_reports_a_failure_reports_it_later() -> None:
    world, name = tokenizing()
    world.fail(name, 1)
    world.crash_after(1)
    world.settle()
    assert trains(world)
    assert len(failures(world)) == 1


def test_a_training_that_is_repeated_is_not_preceded_by_another_job() -> None:
    world, name = tokenizing()
    world.round()
    (first,) = ever(world, "train")
    world.fail(first, 1)
    passes(world, MINUTE)
    assert world.generation(2).status.training.attempt == 2
    assert trains(world)
    assert ever(world) == [name]


def test_a_suspended_update_suspends_the_job_and_resumes_the_same() -> None:
    world, name = tokenizing()
    uid = world.jobs[name].uid
    runs(world, name, HOUR)
    world.edit(suspend=True)
    world.settle()
    assert (world.jobs[name].suspended, world.jobs[name].suspended_by_us) == (True, True)
    assert world.update.status.phase == "Suspended"
    passes(world, 9 * HOUR)
    assert not ever(world, "train")
    world.edit(suspend=False)
    world.settle()
    assert (world.jobs[name].suspended, world.jobs[name].uid) == (False, uid)
    world.complete_jobs()
    world.settle()
    assert trains(world)


def test_a_pin_suspends_the_job() -> None:
    world, name = tokenizing()
    runs(world, name, HOUR)
    world.pin(1)
    world.settle()
    assert world.jobs[name].suspended
    world.pin(None)
    world.settle()
    assert not world.jobs[name].suspended


def test_nothing_is_tokenized_for_an_update_that_is_suspended() -> None:
    world = about_to_tokenize()
    while "shop-g2" not in world.generations:
        world.now += MINUTE
        world.complete_jobs()
        world.step()
    world.edit(suspend=True)
    passes(world, HOUR)
    assert not ever(world)
    world.edit(suspend=False)
    world.settle()
    assert ever(world)


def test_an_edit_of_the_recipe_ends_the_job_and_the_next_run_has_its_own() -> None:
    world, name = tokenizing()
    runs(world, name, MINUTE)
    edited = {**world.spec["training"], "hyperparameters": {"learningRate": "1e-5"}}
    world.edit(training=edited)
    world.settle()
    assert world.generation(2).status.reason == "SpecChanged"
    assert name not in world.jobs
    world.rounds()
    assert ever(world, number=3)
    assert world.generation(3).status.rollout.promoted_at
    assert failures(world) == []


def test_an_edit_of_the_limit_on_gpu_seconds_changes_nothing() -> None:
    world, name = tokenizing()
    training = {**world.spec["training"], "limits": {"maxGpuSecondsPerDay": 3600}}
    world.edit(training=training)
    world.settle()
    assert name in world.jobs
    assert world.generation(2).status.verdict == "Pending"


def test_a_rejection_ends_the_job_and_nothing_is_trained() -> None:
    world, name = tokenizing()
    runs(world, name, MINUTE)
    world.ask("reject@1")
    world.settle()
    assert world.generation(2).status.reason == "RejectedByRequest"
    assert name not in world.jobs
    assert not ever(world, "train")
    assert failures(world) == []


def test_the_job_of_a_generation_that_a_user_deletes_is_deleted() -> None:
    world, name = tokenizing()
    runs(world, name, MINUTE)
    world.delete_generation("shop-g2")
    world.settle()
    assert name not in world.jobs


def test_a_restored_update_has_a_run_and_a_job_of_its_own() -> None:
    world, name = tokenizing()
    world.recreate()
    world.rounds()
    assert world.generation(2).status.reason == "Orphaned"
    (again,) = ever(world, number=3)
    assert again.replace("-g3-", "-g2-") != name
    assert world.generation(3).status.rollout.promoted_at


def test_a_person_approves_what_several_pods_tokenized_for() -> None:
    world = about_to_tokenize()
    world.edit(gate={**world.spec["gate"], "approval": "Manual"})
    world.rounds()
    assert ever(world)
    assert world.update.status.phase == "AwaitingApproval"
    assert world.decide_on_approval("shop-g2", "Approved")
    world.rounds(2)
    assert world.generation(2).status.rollout.promoted_at


@pytest.mark.parametrize("mode", ["TrainOnly", "Observe"])
def test_rows_are_tokenized_in_the_modes_that_change_no_target(mode: str) -> None:
    world = about_to_tokenize()
    world.edit(mode=mode)
    world.rounds()
    assert len(ever(world)) == 1
    assert world.generation(2).status.artifact


def test_a_training_on_several_nodes_is_preceded_by_a_plain_job() -> None:
    world, name = tokenizing(nodes=2)
    assert not world.jobs[name].is_job_set
    world.round()
    (training,) = ever(world, "train")
    assert world.jobs[training].is_job_set
    world.rounds()
    assert world.generation(2).status.rollout.promoted_at


def test_pods_tokenize_while_the_jobset_of_their_training_cannot_be_created() -> None:
    world, name = tokenizing(nodes=2)
    world.job_sets = replace(MISSING, unavailable="JobSet is not installed")
    runs(world, name, MINUTE)
    world.complete_jobs()
    world.settle()
    assert world.update.status.phase == "Queued"
    assert world.generation(2).status.training is None
    world.job_sets = ObservedKind()
    world.settle()
    assert trains(world)


def test_pods_tokenize_while_the_gpu_seconds_of_a_day_are_used_up() -> None:
    world, _ = tokenizing()
    world.complete_jobs()
    world.settle()
    (training,) = ever(world, "train")
    runs(world, training, HOUR)
    world.rounds()
    assert world.generation(2).status.rollout.promoted_at
    world.months.append("2025-04")
    while not ever(world, number=3):
        world.round()
    world.edit(training={**world.spec["training"], "limits": {"maxGpuSecondsPerDay": 1800}})
    world.round()
    assert "24 hours" in world.update.status.progress.waiting_for
    assert world.generation(3).status.training is None
    passes(world, DAY)
    assert world.generation(3).status.training is not None
    assert len(ever(world, number=3)) == 1


def test_a_refused_job_is_reported_and_created_once_it_is_not_refused() -> None:
    world = about_to_tokenize()
    world.refuse_jobs = lambda run: run.stage == "tokenize"
    world.rounds()
    assert world.update.status.phase == "Queued"
    assert world.condition("Stalled").reason == "JobRefused"
    assert not ever(world)
    world.refuse_jobs = lambda run: False
    world.rounds()
    assert world.generation(2).status.rollout.promoted_at


@pytest.mark.survives(
    "Jobs and pods",
    "no pod that tokenizes before a training gets a node",
    "after `training.compute.pendingTimeout`, or 15 minutes, the training begins and tokenizes "
    "itself; an Event says why",
)
@pytest.mark.parametrize(("compute", "patience"), [({}, 15), ({"pendingTimeout": "40m"}, 40)])
def test_a_training_begins_where_no_pod_gets_a_node_to_tokenize(
    compute: dict[str, str], patience: int
) -> None:
    world, name = tokenizing(**compute)
    waits(world, name)
    status = world.update.status
    assert (status.phase, status.progress.waiting_for) == ("Queued", NO_CPU)
    passes(world, (patience - 1) * MINUTE)
    assert not ever(world, "train")
    passes(world, 2 * MINUTE)
    assert trains(world)
    assert NO_CPU in failures(world)[0]


def test_pods_tokenize_on_while_one_of_them_runs() -> None:
    world, name = tokenizing(pendingTimeout="30m")
    waits(world, name, but=1)
    passes(world, 9 * HOUR)
    assert not ever(world, "train")
    assert world.update.status.progress.summary == "3 pods tokenize 2,500 rows"


def test_pods_that_wait_after_the_others_have_ended_are_not_waited_for_long() -> None:
    world, name = tokenizing()
    waits(world, name, but=2)
    passes(world, HOUR)
    job = world.jobs[name]
    ended = [
        replace(pod, running=False, exit_code=0, ended=world.now) if pod.running else pod
        for pod in job.pods
    ]
    for pod in ended[:2]:
        world.ran[pod.uid] = (*world.ran[pod.uid][:2], world.now)
    world.jobs[name] = replace(job, pods=tuple(ended))
    world.settle()
    passes(world, 14 * MINUTE)
    assert not ever(world, "train")
    passes(world, 2 * MINUTE)
    assert trains(world)


def test_what_a_user_must_fix_is_reported_while_no_pod_tokenizes() -> None:
    world, name = tokenizing()
    pod = ObservedPod("pod", "uid", world.now, waiting="image pull failed: not found")
    world.jobs[name] = replace(world.jobs[name], pods=(pod,))
    world.settle()
    assert world.condition("Stalled").reason == "ImagePullFailed"


def test_in_the_queue_of_the_installation_the_job_waits_as_long_as_kueue_lets_it() -> None:
    world, name = tokenizing()
    queued = {"queue": "all-jobs", "suspended": True, "suspended_at": world.now}
    world.jobs[name] = replace(world.jobs[name], **queued)
    world.queue_admits = 0
    world.run_kueue()
    world.settle()
    assert world.update.status.progress.summary == "Pending in Kueue"
    passes(world, 9 * HOUR)
    assert not ever(world, "train")
    world.edit(suspend=True)
    world.settle()
    assert not world.workload(name).active
    world.edit(suspend=False)
    world.settle()
    assert world.workload(name).active
    world.queue_admits = 1
    world.run_kueue()
    world.settle()
    world.complete_jobs()
    world.settle()
    assert trains(world)
