"""A training with bottleneck adapters, from the parent's artifact to the candidate's."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from springtide_api.contract import ArtifactRef
from springtide_trainer.storage import local_path

QUICK = {"epochs": 1, "batchSize": 16, "learningRate": "1e-2"}
METHOD = {"type": "Adapter", "adapter": {"width": 4}}
FILES = ("model.adapted.safetensors", "bottlenecks.safetensors")


def weights(made) -> dict[str, torch.Tensor]:
    folder = local_path(made.uri)
    return {name: w for file in FILES for name, w in load_file(folder / file).items()}


def test_the_weights_of_the_parent_stay_beside_bottlenecks_and_head(world):
    made = world.train(world.run_file(method=METHOD, hyperparameters=QUICK)).artifact
    trained = load_file(local_path(made.uri) / FILES[1])
    assert all(bool(weight.any()) for name, weight in trained.items() if ".up." in name)
    before = load_file(local_path(world.parent.uri) / "model.safetensors")
    after = load_file(local_path(made.uri) / FILES[0])
    assert after.keys() == before.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"classifier.weight", "classifier.bias"}


def test_the_next_generation_trains_them_on_from_the_artifact(world):
    first = world.train(world.run_file(method=METHOD, hyperparameters=QUICK)).artifact
    still = {**QUICK, "learningRate": "1e-30", "weightDecay": "0"}
    run = world.run_file("g2-train-1", method=METHOD, hyperparameters=still)
    parent = ArtifactRef(uri=first.uri, digest=first.digest)
    again = run.model_copy(update={"train": run.train.model_copy(update={"parent": parent})})
    assert world.train(again).artifact.digest == first.digest


@pytest.mark.parametrize("dropout", ["0", "0.1"])
def test_a_resumed_training_gives_the_weights_of_an_uninterrupted_one(world, dropout):
    options = {**QUICK, "epochs": 2, "dropout": dropout}
    whole = world.run_file(
        "whole", method=METHOD, hyperparameters=options, checkpoint={"everySteps": 20}
    )
    digest = world.train(whole).artifact.digest
    (checkpoint,) = world.home.checkpoints(1).iterdir()
    held = load_file(checkpoint / "state.safetensors")
    names = {name.removeprefix("weights/") for name in held if name.startswith("weights/")}
    assert all(".bottleneck." in name or name.startswith("classifier.") for name in names)
    assert world.train(whole.model_copy(update={"job": "resumed"})).artifact.digest == digest


def test_how_a_step_is_cut_into_passes_changes_weights_by_rounding_only(world):
    options = {
        "maxSteps": 8,
        "batchSize": 16,
        "optimizer": "SGD",
        "learningRate": "0.1",
        "precision": "FP32",
    }
    made = [
        world.train(world.run_file(f"cut-{d}", divisor=d, method=METHOD, hyperparameters=options))
        for d in (1, 8)
    ]
    ours, theirs = (weights(each.artifact) for each in made)
    apart = sum(float((theirs[name] - ours[name]).norm()) for name in ours)
    up = sum(float(weight.norm()) for name, weight in ours.items() if "bottleneck.up" in name)
    assert apart < 1e-3 * up


def test_stored_outputs_of_frozen_layers_have_their_adapters(world, caplog):
    """Those that frozen layers have of earlier generations are a part of what is stored."""
    first = world.train(world.run_file(method=METHOD, hyperparameters=QUICK)).artifact
    parent = ArtifactRef(uri=first.uri, digest=first.digest)
    options = {**QUICK, "epochs": 2, "freeze": {"lowerLayers": 1}}
    run = world.run_file("g2-train-1", method=METHOD, hyperparameters=options)
    run = run.model_copy(update={"train": run.train.model_copy(update={"parent": parent})})
    with caplog.at_level("INFO"):
        made = world.train(run).artifact
    assert "outputs of the lower layers stored" in caplog.messages
    before, after = weights(first), weights(made)
    moved = {
        name
        for name in before
        if "bottleneck" in name and not torch.equal(before[name], after[name])
    }
    assert moved
    assert all("layer.1." in name for name in moved)
