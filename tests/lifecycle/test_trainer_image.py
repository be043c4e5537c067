"""Two images are two recipes, also where the installation provides the image."""

from __future__ import annotations

from dataclasses import replace

import pytest
from lifecycle.world import World, digest, with_generation_one

from springtide_operator.lifecycle.state.observed import ObservedPod

IMAGE = 'image pull failed: failed to pull and unpack image "trainer:1": not found'


def rejected() -> World:
    """A world whose second generation was rejected."""
    world = with_generation_one()
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.55, 0.66)
    world.rounds(8)
    assert world.generation(2).status.verdict == "Rejected"
    assert "shop-g3" not in world.generations
    return world


def waits(world: World, stage: str) -> str:
    """Let the Job of a stage wait for its image; return its name."""
    while not any(job.stage == stage for job in world.jobs.values()):
        world.round()
    (name,) = (name for name, job in world.jobs.items() if job.stage == stage)
    pod = ObservedPod("pod", "uid", world.now, waiting=IMAGE)
    world.jobs[name] = replace(world.jobs[name], pods=(pod,))
    world.settle()
    return name


def test_a_generation_records_the_image_that_the_installation_provides() -> None:
    world = with_generation_one()
    for number in (0, 1):
        assert world.generation(number).spec.recipe.training.image == "trainer:1"
    assert world.generation(1).spec.image_digest == digest("trainer:1")


def test_a_generation_records_the_digest_of_the_image_that_trained_it() -> None:
    world = with_generation_one()
    for number in (0, 1):
        assert world.generation(number).status.training.image_digest == digest("trainer:1")
    assert world.generation(1).status.evaluation.image_digest == digest("trainer:1")


@pytest.mark.survives(
    "People",
    "the installation's default trainer image is replaced after a rejection",
    "another recipe: the same rows are used once more with it",
)
def test_another_default_image_is_another_recipe() -> None:
    world = rejected()
    world.image = "trainer:2"
    world.rounds(8)
    assert world.generation(3).spec.data == world.generation(2).spec.data
    assert world.generation(3).spec.recipe.training.image == "trainer:2"
    assert world.generation(3).status.verdict == "Rejected"
    world.rounds(8)
    assert "shop-g4" not in world.generations


def test_another_image_under_the_same_name_is_another_recipe() -> None:
    world = rejected()
    world.tags["trainer:1"] = digest("built again")
    world.rounds(8)
    assert world.generation(3).spec.image_digest == digest("built again")
    world.rounds(8)
    assert "shop-g4" not in world.generations


def test_naming_the_default_image_in_the_spec_changes_no_recipe() -> None:
    world = rejected()
    world.edit(training={"image": "trainer:1"})
    world.rounds(8)
    assert "shop-g3" not in world.generations


@pytest.mark.parametrize(
    "change",
    [
        {"storage": {"uri": "file:///models", "volume": {"claimName": "models-2"}}},
        {"image": "trainer:2"},
    ],
    ids=["the claim of the storage", "the default image"],
)
def test_a_failed_run_is_retried_once_claim_or_default_image_is_replaced(change) -> None:
    world = with_generation_one()
    world.months.append("2025-03")
    for _ in range(12):
        for name, job in list(world.jobs.items()):
            if job.stage == "train" and not job.finished:
                world.fail(name, 137)
        world.round(10)
    assert world.generation(2).status.verdict == "Failed"
    assert "shop-g3" not in world.generations
    world.image = change.pop("image", world.image)
    if change:
        world.edit(**change)
    world.rounds(8)
    assert world.generation(3).status.rollout.promoted_at


@pytest.mark.survives(
    "People",
    "the installation's default trainer image is replaced while a run waits to pull the old one",
    "the run is replaced by one with the new image; a trained candidate keeps its weights",
)
def test_a_run_that_waits_for_the_default_image_is_replaced_with_it() -> None:
    world = World()
    world.months = ["2025-01", "2025-02"]
    waits(world, "train")
    world.image = "trainer:2"
    world.settle()
    assert world.generation(1).status.reason == "SpecChanged"
    world.rounds()
    assert world.generation(2).spec.recipe.training.image == "trainer:2"
    assert world.generation(2).status.rollout.promoted_at


def test_an_evaluation_that_waits_for_the_default_image_gets_the_new_one() -> None:
    world = World()
    world.months = ["2025-01", "2025-02"]
    name = waits(world, "evaluate")
    world.image = "trainer:2"
    world.settle()
    assert world.generation(1).status.evaluation.attempt == 2
    (again,) = (each for each, job in world.jobs.items() if job.stage == "evaluate")
    assert again != name
    assert world.runs[again].image == "trainer:2"
    world.rounds()
    assert world.generation(1).status.rollout.promoted_at


@pytest.mark.parametrize("by", ["installation", "spec"])
def test_a_candidate_that_waits_for_data_is_probed_for_with_an_image_that_exists(by: str) -> None:
    """And with the resources that the spec requires now; its rows are those of its own recipe."""
    world = with_generation_one()
    world.months.append("2025-03")
    world.aucs["2025-03"], world.error = (0.61, 0.60), 0.05
    world.rounds(8)
    assert world.generation(2).status.reason == "ExtendHoldout"
    resources = {"compute": {"resources": {"memory": "9Gi"}}}
    named = {"image": "trainer:2", **resources, "hyperparameters": {"learningRate": "3e-5"}}
    world.image = "trainer:2" if by == "installation" else world.image
    world.edit(training=named if by == "spec" else resources)
    world.rounds(3)
    probe = [start for start in world.runs.values() if start.run.stage == "probe"][-1]
    made = world.generation(2).spec.recipe
    asked = probe.run.recipe
    assert (probe.image, asked.training.image) == ("trainer:2", "trainer:2")
    assert asked.training.compute.resources.memory == "9Gi"
    assert asked.training.hyperparameters == made.training.hyperparameters
    assert asked.data == made.data
    world.months.append("2025-04")
    world.aucs["2025-04"], world.error = (0.70, 0.60), 0.002
    world.rounds(6)
    assert world.generation(2).status.verdict == "Accepted"


def test_the_files_of_a_pruned_generation_are_deleted_with_an_existing_image() -> None:
    world = with_generation_one()
    world.edit(history={"generations": 2, "rejected": 0})
    world.months.append("2025-03")
    world.aucs["2025-03"] = (0.55, 0.66)
    world.rounds(8)
    world.image = "trainer:2"
    world.months.append("2025-04")
    world.rounds(12)
    collected = [start for start in world.runs.values() if start.run.stage == "collect"]
    assert [start.image for start in collected] == ["trainer:2"] * len(collected)
    assert collected
