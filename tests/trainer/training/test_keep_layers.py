"""A model that lost layers at its import is trained, evaluated and served as such."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from trainer import decoders
from trainer.training.conftest import LABELS, World, freeze, imported, publish, toy_rows
from trainer.training.test_causal_lm import WORDS, dialogues

from springtide_trainer.artifact.models import load
from springtide_trainer.errors import Refused
from springtide_trainer.stages import import_model
from springtide_trainer.storage import Home, local_path

if TYPE_CHECKING:
    from pathlib import Path

ONE = {"labels": LABELS, "keepLayers": [1]}
TRAINING = {"hyperparameters": {"maxSteps": 30, "batchSize": 16, "learningRate": "3e-3"}}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return publish(tmp_path / "published", LABELS)


def layers(uri: str) -> int:
    return int(json.loads((local_path(uri) / "config.json").read_text())["num_hidden_layers"])


def test_the_import_keeps_the_named_layers_and_the_result_is_not_for_serving(source, tmp_path):
    made = imported(source, Home(tmp_path / "home"), model=ONE)
    assert (made.head, layers(made.uri)) == ("Seeded", 1)
    before = load_file(source / "model.safetensors")
    after = load_file(local_path(made.uri) / "model.safetensors")
    name = "bert.encoder.layer.{}.output.dense.weight"
    assert torch.equal(after[name.format(0)], before[name.format(1)])
    assert name.format(1) not in after
    assert torch.equal(after["classifier.weight"], before["classifier.weight"])

    whole = imported(source, Home(tmp_path / "whole"), model={**ONE, "keepLayers": [0, 1]})
    assert (whole.head, layers(whole.uri)) == ("Trained", 2)
    assert whole.digest == imported(source, Home(tmp_path / "plain")).digest


def test_what_is_left_is_trained_and_scored_as_such(source, tmp_path):
    home = Home(tmp_path / "home")
    world = World(home, imported(source, home, model=ONE), freeze(home, toy_rows(240)), ONE)
    made = world.train(world.run_file(**TRAINING)).artifact
    assert layers(made.uri) == 1
    name = "bert.encoder.layer.0.output.dense.weight"
    weights = [
        load_file(local_path(each.uri) / "model.safetensors") for each in (world.parent, made)
    ]
    assert not torch.equal(weights[0][name], weights[1][name])
    rows = [("good shoe", None), ("bad lamp", None)]
    scores = [
        load(local_path(each.uri), each.digest).predict(rows) for each in (world.parent, made)
    ]
    assert (scores[0] != scores[1]).all()


FEW = {"maxSteps": 4, "batchSize": 8, "learningRate": "1e-3"}


@pytest.mark.parametrize(
    "training",
    [
        {"hyperparameters": {**FEW, "freeze": {"lowerLayers": 1}}},  # outputs of the layer are kept
        {"method": {"type": "AdaLoRA", "adaLora": {"rank": 2, "initialRank": 4}}},
        {"method": {"type": "Adapter", "adapter": {"width": 4}}},
        {"method": {"type": "PromptTuning", "promptTuning": {"tokens": 4}}},
        {"method": {"type": "PrefixTuning", "prefixTuning": {"tokens": 4}}},
        {"retention": {"ewc": {"strength": "10", "rows": 20}, "distillation": {}}},
    ],
    ids=["frozen", "AdaLoRA", "Adapter", "PromptTuning", "PrefixTuning", "EWC"],
)
def test_each_method_trains_what_is_left(source, tmp_path, training):
    home = Home(tmp_path / "home")
    world = World(home, imported(source, home, model=ONE), freeze(home, toy_rows(80)), ONE)
    run = world.run_file(**{"hyperparameters": FEW, **training})
    assert run.train is not None
    given = run.train.model_copy(update={"seeded_head": True})
    made = world.train(run.model_copy(update={"train": given}))
    assert layers(made.artifact.uri) == 1
    rows = [("good shoe", None), ("bad lamp", None)]
    before, after = (
        load(local_path(each.uri), each.digest).predict(rows)
        for each in (world.parent, made.artifact)
    )
    assert (before != after).all()
    assert (made.fisher is not None) == ("retention" in training)


@pytest.mark.parametrize("llama", [False, True], ids=["gpt2", "llama"])
def test_a_decoder_without_its_first_layer_is_trained_and_generates(tmp_path, llama):
    home = Home(tmp_path / "home")
    model = {"task": "CausalLM", "causalLm": {"maxNewTokens": 6}, "keepLayers": [1]}
    source = decoders.publish(tmp_path / "decoder", WORDS, llama=llama)
    parent = imported(source, home, model=model)
    assert parent.head == "Seeded"
    world = World(home, parent, freeze(home, dialogues(120)), model)
    options = {
        "epochs": 6,
        "learningRate": "5e-3",
        "batchSize": 16,
        "freeze": {"embeddings": False},
    }
    made = world.train(world.run_file(hyperparameters=options)).artifact
    scorers = [load(local_path(each.uri), each.digest) for each in (parent, made)]
    rows = dialogues(40, seed=9)
    lost, left = (
        each.predict(each.preprocess.render(rows, rows["label"]))[:, 0].mean() for each in scorers
    )
    assert left < lost / 2
    found = scorers[1].respond(rows["text"], scorers[1].limits)
    assert len(found) == 40
    assert np.mean([bool(each) for each in found]) > 0.5


def test_a_model_that_computes_something_else_once_it_is_loaded_is_refused(
    source, tmp_path, monkeypatch
):
    """As one whose configuration says something of each layer."""
    keep = import_model.keep_layers

    def wrong(model, kept):
        model.bert.encoder.layer[1].register_forward_hook(lambda *given: given[2] * 2)
        return keep(model, kept)

    monkeypatch.setattr(import_model, "keep_layers", wrong)
    with pytest.raises(Refused, match="has settings for each layer"):
        imported(source, Home(tmp_path / "home"), model=ONE)
