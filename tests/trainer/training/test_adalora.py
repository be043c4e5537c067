"""A training with AdaLoRA, from the parent's artifact to the candidate's."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file
from trainer.training.test_lora import QUICK, changed, weights
from transformers import AutoModelForSequenceClassification

from springtide_trainer.artifact.models import load
from springtide_trainer.stages import train as stage
from springtide_trainer.storage import local_path


def adalora(**options: object) -> dict[str, object]:
    return {"type": "AdaLoRA", "adaLora": {"rank": 2, "initialRank": 4, **options}}


def test_the_artifact_is_loaded_by_plain_transformers_and_scores_as_ours(world):
    made = world.train(world.run_file(method=adalora(), hyperparameters=QUICK))
    folder = local_path(made.artifact.uri)
    linear = {
        name
        for name, weight in weights(world.parent).items()
        if weight.ndim == 2 and "embeddings" not in name
    }
    assert {"classifier.bias", "classifier.weight"} < changed(world, made.artifact)
    assert changed(world, made.artifact) <= linear | {"classifier.bias"}
    assert made.adapter is None

    plain = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    scorer = load(folder, made.artifact.digest)
    inputs = scorer.tokenizer(["the good shoe"], return_tensors="pt")
    with torch.no_grad():
        expected = plain(**inputs).logits.softmax(-1).numpy()
    assert scorer.predict([("the good shoe", None)]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.survives(
    "Model",
    "a training with AdaLoRA is killed before or after its ranks are final",
    "the next attempt allocates as if it had not been interrupted, and leaves the same weights",
)
@pytest.mark.parametrize("at", [6, 18], ids=["before", "after"])
def test_a_resumed_training_gives_the_weights_of_an_uninterrupted_one(
    world, monkeypatch, caplog, at
):
    training = {
        "method": adalora(dropout="0.1", allocateEvery=2, allocateUntil="0.5"),
        "hyperparameters": {
            "maxSteps": 24,
            "batchSize": 8,
            "gradientAccumulation": 2,
            "learningRate": "1e-2",
            "dropout": "0.1",
        },
        "checkpoint": {"everySteps": 6, "keep": 9},
        "earlyStopping": {"everySteps": 4, "patience": 9},
        "robustness": {"averaging": {"ema": "0.9"}},
    }
    whole = world.train(world.run_file("g1-train-1", **training)).artifact
    shutil.rmtree(world.home.checkpoints(1))

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(stage, "check_tensors", die)
        with pytest.raises(KeyboardInterrupt):
            world.train(world.run_file("g1-train-2", **training))
    for folder in world.home.checkpoints(1).iterdir():
        if folder.name > f"step-{at:09d}":
            shutil.rmtree(folder)
    held = load_file(world.home.checkpoints(1) / f"step-{at:09d}" / "state.safetensors")
    assert any(name.startswith("method/importance/") for name in held) == (at < 12)
    with caplog.at_level("INFO"):
        resumed = world.train(world.run_file("g1-train-3", **training)).artifact
    assert "resumed" in caplog.messages
    assert resumed.digest == whole.digest


@pytest.mark.parametrize(
    "cut", [{"divisor": 8}, {"batchSize": 4, "gradientAccumulation": 4}], ids=["halved", "steps"]
)
def test_how_a_step_is_cut_into_passes_changes_weights_by_rounding_only(world, cut):
    """Neither the penalty nor the importance of a weight depends on the number of passes."""

    def made(job: str, divisor: int = 1, **options: object):
        hyperparameters = {
            "maxSteps": 8,
            "batchSize": 16,
            "optimizer": "SGD",
            "learningRate": "0.1",
            "precision": "FP32",
            **options,
        }
        method = adalora(allocateEvery=1)
        run = world.run_file(job, divisor=divisor, method=method, hyperparameters=hyperparameters)
        return world.train(run)

    whole, other = made("whole"), made("cut", **cut)
    assert other.metrics["loss"] == pytest.approx(whole.metrics["loss"], rel=1e-5)
    before, ours = weights(world.parent), weights(whole.artifact)
    theirs = weights(other.artifact)
    apart = sum(float((theirs[name] - ours[name]).norm()) for name in ours)
    assert apart < 1e-3 * sum(float((before[name] - ours[name]).norm()) for name in ours)


def test_interpolation_takes_the_merged_weights(world):
    options = {"alphas": ["1", "0.5"]}
    run = world.run_file(
        method=adalora(),
        hyperparameters={**QUICK, "maxSteps": 4, "epochs": None},
        retention={"interpolation": options},
        earlyStopping={"everySteps": 2},
    )
    made = world.train(run)
    assert made.metrics["alpha"] in (1.0, 0.5)
    assert weights(made.artifact).keys() == weights(world.parent).keys()
