"""training.compute.queueName: Kueue suspends and resumes Jobs; the operator follows its words."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.invariants import Invariants
from lifecycle.world import World, with_generation_one
from lifecycle.world_queue import MISSING, NO_QUOTA, PREEMPTED, REQUEUES_USED_UP

from springtide_operator.lifecycle.queues.observed import ObservedKind, WorkloadCondition
from springtide_operator.lifecycle.state.observed import ObservedPod, ObservedProgress
from springtide_operator.lifecycle.state.plan import SuspendJob

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
GPU = "no node has a free nvidia.com/gpu: 0/1 nodes are available"


def queued(stage: str = "train", full: bool = True, limits: dict | None = None, **compute: object):
    """A world whose second generation has a Job of a stage in a queue, and the Job's name."""
    world = with_generation_one()
    Invariants(world)
    compute = {"queueName": "gpus", "gpusPerNode": 1, **compute}
    world.edit(training={"compute": compute, "limits": limits or {"activeDeadline": "2h"}})
    world.months.append("2025-03")
    if stage == "train":
        world.queue_admits = 0 if full else 9
    while not (found := [name for name in world.jobs if f"-g2-{stage}-" in name]):
        world.round()
    world.queue_admits = 0 if full else 9
    world.run_kueue()
    world.settle()
    return world, found[0]


def passes(world: World, time: timedelta) -> None:
    world.now += time
    world.run_kueue()
    world.settle()


def progress(world: World) -> tuple[str, str, str]:
    status = world.update.status
    return status.phase, status.progress.summary, status.progress.waiting_for


def admit(world: World) -> None:
    world.queue_admits = 9
    world.run_kueue()
    world.settle()


def runs(world: World, name: str, time: timedelta) -> None:
    world.begin(name)
    world.settle()
    passes(world, time)


def preempted(world: World, name: str) -> None:
    world.queue_admits = 0
    world.preempt(name)
    world.settle()


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


def test_the_time_of_all_admissions_counts_for_the_active_deadline() -> None:
    world, name = queued(full=False)
    for _ in range(2):
        runs(world, name, HOUR)
        preempted(world, name)
        passes(world, 9 * HOUR)
        admit(world)
    assert world.generation(2).status.reason == "DeadlineExceeded"
    assert world.generation(2).status.training.running_seconds == 7200


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


def hold(world: World, what: str, on: bool) -> None:
    if what == "spec.suspend":
        world.edit(suspend=on)
    else:
        world.pin(1 if on else None)
    world.settle()


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
    assert [n for n in world.jobs if "-evaluate-" in n] == [name]
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
