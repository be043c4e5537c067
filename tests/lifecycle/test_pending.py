"""A pod that does not run yet: a queue is reported, a refusal stalls, a fixed spec starts again."""

from dataclasses import replace
from datetime import timedelta

import pytest
from lifecycle.world import World, with_generation_one

from springtide_operator.lifecycle.state.observed import ObservedPod, ObservedProgress

IMAGE = 'image pull failed: failed to pull and unpack image "trainer:9": not found'
QUOTA = "quota exceeded: exceeded quota: team, requested: requests.memory=4Gi"
SECRET = 'CreateContainerConfigError: secret "object-store" not found'
GPU = "no node has a free nvidia.com/gpu: 0/1 nodes are available"


def trains() -> World:
    world = World()
    world.months = ["2025-01", "2025-02"]
    while not any(job.stage == "train" for job in world.jobs.values()):
        world.round()
    return world


def waits(world: World, said: str, stage: str = "train") -> None:
    name = next(name for name, job in world.jobs.items() if job.stage == stage)
    pod = ObservedPod("pod", "uid", world.now, waiting=said)
    world.jobs[name] = replace(world.jobs[name], pods=(pod,))
    world.settle()


def conditions(world: World) -> dict:
    return {each.type: each for each in world.update.status.conditions}


@pytest.mark.parametrize(
    ("said", "reason", "remedy"),
    [
        (IMAGE, "ImagePullFailed", "training.image"),
        (QUOTA, "QuotaExceeded", "raise the quota"),
        (SECRET, "SecretNotFound", "create the Secret of data.secretName"),
        ("its pods are refused: maximum memory is 1Gi", "PodsForbidden", "refuses them"),
        ("Pod Security refuses its pods: violates", "PodsForbidden", "level of the namespace"),
    ],
)
def test_a_cause_that_a_user_must_fix_stalls_the_update_and_names_the_remedy(said, reason, remedy):
    world = trains()
    waits(world, said)
    status = world.update.status
    assert (status.phase, status.progress.summary) == ("Queued", said.split(":")[0])
    stalled = conditions(world)["Stalled"]
    assert (stalled.reason, stalled.message) == (reason, status.progress.waiting_for)
    assert stalled.message.startswith(said)
    assert remedy in stalled.message


def test_waiting_for_a_gpu_is_not_a_stall():
    world = trains()
    waits(world, GPU)
    assert world.update.status.phase == "Queued"
    assert "Stalled" not in conditions(world)


def test_a_probe_without_an_image_reports_that():
    world = World()
    while not any(job.stage == "probe" for job in world.jobs.values()):
        world.complete_jobs()
        world.settle()
    waits(world, IMAGE, "probe")
    assert conditions(world)["Stalled"].reason == "ImagePullFailed"
    assert world.update.status.progress.summary == "image pull failed"


def test_a_message_of_the_kubelet_that_is_too_long_for_the_status_is_cut():
    world = trains()
    waits(world, f"{IMAGE} {'x' * 4000}")
    status = world.update.status
    assert len(status.progress.waiting_for) <= 1024
    assert "training.image" in status.progress.waiting_for
    waits(world, f"{GPU} {'x' * 4000}")
    assert len(world.update.status.progress.waiting_for) == 1024


@pytest.mark.parametrize(
    ("said", "training"),
    [(IMAGE, {"image": "trainer:8"}), (GPU, {"compute": {"gpusPerNode": 0}})],
)
def test_a_run_that_waits_for_pods_of_an_old_spec_is_replaced(said, training):
    world = World()
    world.edit(training={"compute": {"gpusPerNode": 1}})
    world.months = ["2025-01", "2025-02"]
    while not any(job.stage == "train" for job in world.jobs.values()):
        world.round()
    waits(world, said)
    world.edit(training=training)
    world.settle()
    given_up = world.generation(1).status
    assert (given_up.verdict, given_up.reason) == ("Failed", "SpecChanged")
    assert world.update.status.consecutive_failures == 0
    assert any(job.stage == "probe" for job in world.jobs.values()), "it probes again at once"
    world.rounds()
    second = world.generation(2)
    assert second.spec.data == world.generation(1).spec.data
    assert second.status.rollout.promoted_at


def test_an_edit_that_changes_no_pod_keeps_the_waiting_run():
    world = trains()
    waits(world, GPU)
    world.edit(training={"hyperparameters": {"epochs": 3}})
    world.settle()
    assert world.generation(1).status.verdict == "Pending"


def test_an_edit_does_not_change_a_run_whose_pod_runs():
    world = trains()
    name = next(name for name, job in world.jobs.items() if job.stage == "train")
    pod = ObservedPod("pod", "uid", world.now, scheduled=True, running=True)
    world.jobs[name] = replace(world.jobs[name], pods=(pod,))
    world.edit(training={"image": "trainer:8"})
    world.settle()
    assert world.generation(1).status.verdict == "Pending"


def test_an_import_without_its_image_starts_again_once_the_spec_is_fixed():
    world = World()
    world.settle()
    waits(world, IMAGE, "import")
    assert conditions(world)["Stalled"].reason == "ImagePullFailed"
    world.edit(training={"image": "trainer:8"})
    world.settle()
    world.rounds(3)
    assert world.generation(0).status.reason == "SpecChanged"
    assert world.generation(1).spec.origin == "Imported"
    assert world.generation(1).status.artifact
    assert "Stalled" not in conditions(world)


def waits_for_evaluation(said: str = GPU) -> World:
    """A world whose second generation is trained and waits for the pod of its evaluation."""
    world = with_generation_one()
    world.edit(training={"compute": {"gpusPerNode": 1, "pendingTimeout": "2h"}})
    world.months.append("2025-03")
    while not any(job.stage == "evaluate" for job in world.jobs.values()):
        world.complete_jobs()
        world.now += timedelta(minutes=2)
        world.settle()
    waits(world, said, "evaluate")
    assert world.generation(2).status.artifact
    return world


def evaluation(world: World) -> str:
    (name,) = (name for name, job in world.jobs.items() if job.stage == "evaluate")
    return name


@pytest.mark.survives(
    "People",
    "`training.compute` or `training.image` is edited while a trained candidate waits for the pod "
    "of its evaluation",
    "a new attempt with the new pods, not counted; the weights are kept and evaluated",
)
def test_a_trained_candidate_that_waits_for_evaluation_gets_the_pods_of_an_edited_spec():
    world = waits_for_evaluation(IMAGE)
    before, weights = world.runs[evaluation(world)], world.generation(2).status.artifact
    fixed = {"image": "trainer:8", "compute": {"resources": {"memory": "16Gi"}}}
    world.edit(training={**fixed, "hyperparameters": {"epochs": 7}})
    world.settle()
    status, start = world.generation(2).status, world.runs[evaluation(world)]
    assert (status.verdict, status.artifact) == ("Pending", weights)
    assert (status.evaluation.attempt, status.evaluation.failed_attempts) == (2, 0)
    assert (start.image, start.gpus) == ("trainer:8", 0)
    asked = start.run.recipe.training
    assert asked.compute.resources.memory == "16Gi"
    assert asked.hyperparameters == before.run.recipe.training.hyperparameters
    world.rounds()
    assert world.generation(2).status.rollout.promoted_at


def test_waiting_pods_of_an_edit_are_replaced_only_by_those_of_the_next_edit():
    world = waits_for_evaluation()
    first = world.spec["training"]
    world.edit(training={"compute": {"nodeSelector": {"zone": "a"}}})
    world.settle()
    waits(world, "no node fits: zone a is full", "evaluate")
    assert world.generation(2).status.evaluation.attempt == 2
    world.edit(training=first)
    world.settle()
    assert world.generation(2).status.evaluation.attempt == 3
    assert world.runs[evaluation(world)].gpus == 1
    waits(world, GPU, "evaluate")
    assert world.generation(2).status.evaluation.attempt == 3


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_a_longer_pending_timeout_requires_no_other_pods(stage):
    world = waits_for_evaluation() if stage == "evaluate" else trains()
    waits(world, GPU, stage)
    names = {*world.jobs}
    compute = {**world.spec.get("training", {}).get("compute", {}), "pendingTimeout": "3h"}
    world.edit(training={"compute": compute})
    world.settle()
    assert {name for name, job in world.jobs.items() if job.stage == stage} <= names
    assert max(world.generations.values(), key=by_number).status.verdict == "Pending"


def by_number(generation):
    return generation.spec.number


@pytest.mark.parametrize("ran", ["an attempt before", "before it was suspended"])
def test_training_that_ran_before_is_kept_when_pods_change(ran):
    world = trains()
    name = next(name for name, job in world.jobs.items() if job.stage == "train")
    if ran == "an attempt before":
        world.fail(name, 137, disrupted=True)
        world.settle()
    else:
        report = ObservedProgress(50, 60, (), world.now)
        world.seen = lambda seen=world.seen: replace(seen(), progress={name: report})
    waits(world, GPU)
    world.edit(training={"image": "trainer:8"})
    world.settle()
    assert world.generation(1).status.verdict == "Pending"


def resumed_at_a_full_quota(resumed: timedelta) -> World:
    """Training whose Job was created long before it was resumed, and cannot be scheduled."""
    world = World()
    world.edit(training={"compute": {"pendingTimeout": "10m"}})
    world.months = ["2025-01", "2025-02"]
    while not any(job.stage == "train" for job in world.jobs.values()):
        world.round()
    name = next(name for name, job in world.jobs.items() if job.stage == "train")
    world.now += timedelta(hours=2)
    moment = world.now - resumed
    world.jobs[name] = replace(world.jobs[name], problem=QUOTA, resumed=moment)
    world.settle()
    return world


@pytest.mark.survives(
    "People",
    "an update with a `pendingTimeout` is suspended for longer than that",
    "the time counts from when its Job may run again",
)
def test_the_time_that_a_job_was_suspended_is_not_waiting_time():
    world = resumed_at_a_full_quota(timedelta(minutes=9))
    assert world.generation(1).status.verdict == "Pending"
    world.now += timedelta(minutes=1)
    world.settle()
    assert world.generation(1).status.reason == "PendingTimeout"


def test_a_pod_from_before_a_suspension_does_not_count_for_a_resumed_job():
    world = resumed_at_a_full_quota(timedelta(minutes=9))
    name = next(name for name, job in world.jobs.items() if job.stage == "train")
    pod = ObservedPod("pod", "uid", world.now - timedelta(hours=1), waiting=GPU)
    world.jobs[name] = replace(world.jobs[name], pods=(pod,), resuming=True, resumed=None)
    world.settle()
    assert world.generation(1).status.verdict == "Pending"
    world.jobs[name] = replace(world.jobs[name], resuming=False, resumed=world.now)
    world.settle()
    assert world.generation(1).status.verdict == "Pending"


PLACED = {
    "affinity": {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}]
            }
        }
    },
    "podLabels": {"team": "search"},
    "runtimeClassName": "nvidia",
    "topologySpreadConstraints": [{"topologyKey": "zone"}],
}


@pytest.mark.survives(
    "People",
    "affinity, topology spread, labels or runtime class of `training.compute` are edited while a "
    "pod waits",
    "a new attempt of the same generation with the new placement, not counted",
)
@pytest.mark.parametrize("stage", ["train", "evaluate"])
@pytest.mark.parametrize("field", sorted(PLACED))
def test_a_pod_that_waits_is_placed_anew_and_stays_the_same_run(stage, field):
    world = waits_for_evaluation() if stage == "evaluate" else trains()
    number = 2 if stage == "evaluate" else 1
    before = world.generation(number)
    waits(world, "no node fits: 0/1 nodes are available", stage)
    (name,) = (name for name, job in world.jobs.items() if job.stage == stage)
    training = world.spec.get("training", {})
    compute = {**training.get("compute", {}), field: PLACED[field]}
    world.edit(training={**training, "compute": compute})
    world.settle()
    (again,) = (name for name, job in world.jobs.items() if job.stage == stage)
    assert again != name
    start, status = world.runs[again], world.generation(number).status
    assert start.placement == world.update.spec.training.compute.placement()
    run = status.evaluation if stage == "evaluate" else status.training
    assert (status.verdict, run.attempt, run.failed_attempts) == ("Pending", 2, 0)
    assert world.generation(number).spec == before.spec
    waits(world, "no node fits: 0/1 nodes are available", stage)
    assert again in world.jobs, "once is enough"
    world.rounds()
    assert world.generation(number).status.rollout.promoted_at


def test_a_training_that_ran_before_resumes_where_the_edited_placement_says():
    world = trains()
    name = next(name for name, job in world.jobs.items() if job.stage == "train")
    world.fail(name, 137, disrupted=True)
    world.settle()
    waits(world, GPU)
    world.edit(training={"image": "trainer:8", "compute": {"runtimeClassName": "nvidia"}})
    world.settle()
    (name,) = (name for name, job in world.jobs.items() if job.stage == "train")
    assert world.runs[name].placement.runtime_class_name == "nvidia"
    assert world.runs[name].image != "trainer:8", "its checkpoint belongs to the snapshot"
    assert world.generation(1).status.training.attempt == 3


def test_a_pod_that_runs_is_not_moved():
    world = trains()
    name = next(name for name, job in world.jobs.items() if job.stage == "train")
    world.begin(name)
    world.settle()
    world.edit(training={"compute": PLACED})
    world.settle()
    assert name in world.jobs


@pytest.mark.parametrize("stage", ["probe", "import"])
def test_stages_without_a_model_to_train_or_evaluate_are_placed_by_the_installation(stage):
    world = World()
    world.edit(training={"compute": PLACED})
    while not any(job.stage == stage for job in world.jobs.values()):
        world.complete_jobs()
        world.settle()
    waits(world, GPU, stage)
    (name,) = (name for name, job in world.jobs.items() if job.stage == stage)
    assert world.runs[name].placement is None
    world.edit(training={"compute": {"runtimeClassName": "gvisor"}})
    world.settle()
    assert name in world.jobs or stage == "probe"
