"""A pod that does not run yet: a queue is told, a refusal stalls, a mended spec begins anew."""

from dataclasses import replace

import pytest
from lifecycle.world import World

from springtide_operator.lifecycle.observation import PodSeen

IMAGE = 'image pull failed: failed to pull and unpack image "trainer:9": not found'
QUOTA = "quota exceeded: exceeded quota: team, requested: requests.memory=4Gi"
GPU = "no node has a free nvidia.com/gpu: 0/1 nodes are available"


def trains() -> World:
    world = World()
    world.months = ["2025-01", "2025-02"]
    while not any(job.stage == "train" for job in world.jobs.values()):
        world.turn()
    return world


def waits(world: World, said: str, stage: str = "train") -> None:
    name = next(name for name, job in world.jobs.items() if job.stage == stage)
    pod = PodSeen("pod", "uid", world.now, waiting=said)
    world.jobs[name] = replace(world.jobs[name], pods=(pod,))
    world.settle()


def conditions(world: World) -> dict:
    return {each.type: each for each in world.update.status.conditions}


@pytest.mark.parametrize(
    ("said", "reason", "remedy"),
    [
        (IMAGE, "ImagePullFailed", "training.image"),
        (QUOTA, "QuotaExceeded", "raise the quota"),
        ("its pods are refused: maximum memory is 1Gi", "PodsForbidden", "refuses them"),
        ("Pod Security refuses its pods: violates", "PodsForbidden", "level of the namespace"),
    ],
)
def test_what_a_person_must_mend_stalls_the_update_and_names_the_remedy(said, reason, remedy):
    world = trains()
    waits(world, said)
    status = world.update.status
    assert (status.phase, status.progress.summary) == ("Queued", said.split(":")[0])
    stalled = conditions(world)["Stalled"]
    assert (stalled.reason, stalled.message) == (reason, status.progress.waiting_for)
    assert stalled.message.startswith(said)
    assert remedy in stalled.message


def test_a_queue_for_a_gpu_is_no_fault():
    world = trains()
    waits(world, GPU)
    assert world.update.status.phase == "Queued"
    assert "Stalled" not in conditions(world)


def test_a_probe_without_an_image_says_so_instead_of_looking_for_data():
    world = World()
    while not any(job.stage == "probe" for job in world.jobs.values()):
        world.run_jobs()
        world.settle()
    waits(world, IMAGE, "probe")
    assert conditions(world)["Stalled"].reason == "ImagePullFailed"
    assert world.update.status.progress.summary == "image pull failed"


def test_a_text_of_the_kubelet_that_is_too_long_for_the_status_is_cut():
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
def test_a_run_that_waits_for_what_the_spec_no_longer_asks_for_gives_way_to_another(said, training):
    world = World()
    world.edit(training={"compute": {"gpusPerNode": 1}})
    world.months = ["2025-01", "2025-02"]
    while not any(job.stage == "train" for job in world.jobs.values()):
        world.turn()
    waits(world, said)
    world.edit(training=training)
    world.settle()
    given_up = world.generation(1).status
    assert (given_up.verdict, given_up.reason) == ("Failed", "SpecChanged")
    assert world.update.status.consecutive_failures == 0
    assert any(job.stage == "probe" for job in world.jobs.values()), "it looks again at once"
    world.turns()
    second = world.generation(2)
    assert second.spec.data == world.generation(1).spec.data
    assert second.status.rollout.promoted_at


def test_an_edit_that_changes_no_pod_leaves_the_waiting_run_its_place():
    world = trains()
    waits(world, GPU)
    world.edit(training={"hyperparameters": {"epochs": 3}})
    world.settle()
    assert world.generation(1).status.verdict == "Pending"


def test_an_edit_does_not_touch_a_run_whose_pod_runs():
    world = trains()
    name = next(name for name, job in world.jobs.items() if job.stage == "train")
    pod = PodSeen("pod", "uid", world.now, scheduled=True, running=True)
    world.jobs[name] = replace(world.jobs[name], pods=(pod,))
    world.edit(training={"image": "trainer:8"})
    world.settle()
    assert world.generation(1).status.verdict == "Pending"


def test_an_import_without_its_image_begins_anew_once_the_spec_is_mended():
    world = World()
    world.settle()
    waits(world, IMAGE, "import")
    assert conditions(world)["Stalled"].reason == "ImagePullFailed"
    world.edit(training={"image": "trainer:8"})
    world.settle()
    world.turns(3)
    assert world.generation(0).status.reason == "SpecChanged"
    assert world.generation(1).spec.origin == "Imported"
    assert world.generation(1).status.artifact
    assert "Stalled" not in conditions(world)
