"""Weights between parent and candidate: which one is chosen, and what of it is reported."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from trainer.training.conftest import World, freeze, imported, publish, toy_rows

from springtide_api.update.training import EarlyStopping as Options
from springtide_trainer.artifact.models import load
from springtide_trainer.storage import Home, local_path
from springtide_trainer.training import interpolation
from springtide_trainer.training.early_stopping import EarlyStopping

EARLY = {"everySteps": 5, "patience": 9}
FAST = {"epochs": 2, "learningRate": "3e-3", "batchSize": 16}


def retained(*alphas: str) -> dict[str, Any]:
    return {"interpolation": {"alphas": list(alphas)}}


def weights(artifact: Any) -> dict[str, torch.Tensor]:
    return load_file(local_path(artifact.uri) / "model.safetensors")


class Scores:
    """A validation metric that is a function of the weight of the first output."""

    def __init__(self, model: nn.Linear, scores: dict[float, float]) -> None:
        self._model = model
        self._scores = scores

    def __call__(self) -> float:
        return self._scores[round(float(self._model.weight[0, 0].detach()), 4)]


def chosen(metric: str, scores: dict[float, float]) -> tuple[dict[float, float], nn.Linear]:
    """Choose between a parent of weights 0 and a model of weights 1 with one more output."""
    parent, model = nn.Linear(2, 1), nn.Linear(2, 2)
    with torch.no_grad():
        for each, value in ((parent, 0.0), (model, 1.0)):
            each.weight.fill_(value)
            each.bias.fill_(value)
    stopping = EarlyStopping(Options(), model, metric=metric, last=9, measure=Scores(model, scores))
    return interpolation.choose(model, parent, [0.25, 1.0, 0.5], stopping=stopping), model


@pytest.mark.parametrize(
    ("metric", "scores", "best"),
    [
        ("auc", {1.0: 0.6, 0.5: 0.8, 0.25: 0.7}, 0.5),
        ("log_loss", {1.0: 0.6, 0.5: 0.8, 0.25: 0.4}, 0.25),
        ("auc", {1.0: 0.6, 0.5: 0.6, 0.25: 0.6}, 1.0),
        ("mae", {1.0: 9.0, 0.5: 3.0, 0.25: 3.0}, 0.5),
    ],
)
def test_the_best_alpha_is_loaded_and_of_equal_ones_the_highest(metric, scores, best):
    tried, model = chosen(metric, scores)
    assert next(iter(tried)) == best
    assert tried == scores
    assert model.weight[0].tolist() == [best, best]
    assert model.bias[0].item() == best


def test_outputs_that_the_parent_does_not_have_keep_the_trained_weights():
    _, model = chosen("auc", {1.0: 0.1, 0.5: 0.8, 0.25: 0.7})
    assert model.weight.tolist() == [[0.5, 0.5], [1.0, 1.0]]
    assert model.bias.tolist() == [0.5, 1.0]


@pytest.mark.parametrize("method", ["Full", "LoRA"])
def test_the_artifact_has_the_weights_of_the_chosen_alpha(world, method):
    options: dict[str, Any] = {"hyperparameters": FAST, "earlyStopping": EARLY}
    if method == "LoRA":
        options["method"] = {"type": "LoRA", "lora": {"rank": 4}}
        options["hyperparameters"] = {**FAST, "epochs": 8, "learningRate": "1e-2"}
    whole = world.train(world.run_file(**options))
    half = world.train(world.run_file("g1-train-2", **options, retention=retained("0.5")))
    both = world.train(world.run_file("g1-train-3", **options, retention=retained("1", "0.5")))

    before, after, between = (
        weights(each) for each in (world.parent, whole.artifact, half.artifact)
    )
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    assert len(moved) > 5
    for name in before:
        torch.testing.assert_close(between[name], torch.lerp(before[name], after[name], 0.5))
    assert half.metrics["alpha"] == 0.5
    assert half.metrics["validation"] == half.metrics["validation_alpha_0.5"]
    values = {alpha: both.metrics[f"validation_alpha_{alpha:g}"] for alpha in (1.0, 0.5)}
    assert both.metrics["alpha"] == min(values, key=values.__getitem__)  # log_loss
    assert both.metrics["validation"] == min(values.values())
    assert "alpha" not in whole.metrics


def test_a_resumed_run_chooses_the_same_weights(world, monkeypatch):
    options = {
        "hyperparameters": {**FAST, "dropout": "0.1"},
        "earlyStopping": EARLY,
        "checkpoint": {"everySteps": 5},
        "retention": retained("1", "0.7", "0.3"),
    }
    whole = world.train(world.run_file(**options))
    shutil.rmtree(world.home.checkpoints(1))

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(interpolation, "choose", die)
        with pytest.raises(KeyboardInterrupt):
            world.train(world.run_file("g1-train-2", **options))
    resumed = world.train(world.run_file("g1-train-3", **options))
    assert resumed.artifact.digest == whole.artifact.digest
    assert resumed.metrics["alpha"] == whole.metrics["alpha"]


def test_appended_labels_keep_their_trained_outputs_at_any_alpha(world, freeze_rows, recipe_with):
    rows = {"text": ["good", "bad"] * 16, "label": ["maybe", "no"] * 16}
    rows["entity"] = [str(number) for number in range(32)]
    data, labels = freeze_rows(world.home, rows), ["no", "yes", "maybe"]
    options = {"hyperparameters": {"batchSize": 4, "learningRate": "1e-3"}, "earlyStopping": EARLY}
    plain = recipe_with(world.run_file(**options), labels, data)
    mixed = world.run_file("g1-train-2", **options, retention=retained("0.25"))
    trained, quarter = (
        world.train(run).artifact for run in (plain, recipe_with(mixed, labels, data))
    )
    before, after, found = weights(world.parent), weights(trained), weights(quarter)
    head = "classifier.weight"
    assert found[head][2:].equal(after[head][2:])
    torch.testing.assert_close(found[head][:2], torch.lerp(before[head], after[head][:2], 0.25))
    assert load(local_path(quarter.uri), quarter.digest).preprocess.labels == labels


def test_stored_outputs_of_frozen_layers_give_the_same_choice(tmp_path):
    home = Home(tmp_path / "models" / "shop" / "ranker")
    world = World(
        home, imported(publish(tmp_path / "published"), home), freeze(home, toy_rows(120))
    )
    options = {
        "hyperparameters": {**FAST, "freeze": {"lowerLayers": 1}},
        "earlyStopping": EARLY,
        "retention": retained("1", "0.5"),
    }
    made = world.train(world.run_file(**options))
    assert made.metrics["alpha"] in {1.0, 0.5}
    before, after = weights(world.parent), weights(made.artifact)
    lower = [name for name in before if "layer.0." in name or "embeddings" in name]
    assert all(torch.equal(before[name], after[name]) for name in lower)
