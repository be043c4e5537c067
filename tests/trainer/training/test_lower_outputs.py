"""Outputs of frozen lower layers are computed once and change no result."""

from __future__ import annotations

import resource
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from trainer.training.test_replay import later, run_of, trained
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)
from transformers.models.bert.modeling_bert import BertLayer

from springtide_api.update.training import Hyperparameters
from springtide_trainer.storage import local_path
from springtide_trainer.training import lower_outputs, session
from springtide_trainer.training.rows import training_rows

if TYPE_CHECKING:
    from pathlib import Path

OPTIONS = {
    "epochs": 3,
    "batchSize": 16,
    "learningRate": "1e-3",
    "precision": "FP32",
    "freeze": {"lowerLayers": 1},
}
SMALL = {"vocab_size": 50, "num_hidden_layers": 2, "num_attention_heads": 2}
WIDE = {"hidden_size": 16, "intermediate_size": 32, "max_position_embeddings": 40}


def train(world: Any, job: str, options: dict[str, Any] | None = None, **more: Any) -> Path:
    shutil.rmtree(world.home.checkpoints(1), ignore_errors=True)
    run = world.run_file(job, hyperparameters={**OPTIONS, **(options or {})}, **more)
    return local_path(world.train(run).artifact.uri)


def differences(first: Path, second: Path) -> list[float]:
    mine, other = (load_file(folder / "model.safetensors") for folder in (first, second))
    return [float((mine[name] - other[name]).abs().max()) for name in mine]


@pytest.fixture
def rows_of_layer(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Record the rows of each pass through a layer of BERT: of both layers together."""
    rows: list[int] = []
    forward = BertLayer.forward

    def counting(self: Any, hidden_states: Any, *given: Any, **named: Any) -> Any:
        rows.append(len(hidden_states))
        return forward(self, hidden_states, *given, **named)

    monkeypatch.setattr(BertLayer, "forward", counting)
    return rows


@pytest.mark.parametrize("stopping", [None, {"everySteps": 5, "patience": 50}])
def test_weights_are_equal_with_and_without_stored_outputs(
    world, monkeypatch, rows_of_layer, stopping
):
    more = {"earlyStopping": stopping} if stopping else {}
    stored = train(world, "stored", **more)
    few = sum(rows_of_layer)
    rows_of_layer.clear()
    monkeypatch.setattr(session, "lower_part", lambda *_: [])
    computed = train(world, "computed", **more)
    assert few < 0.75 * sum(rows_of_layer)
    assert max(differences(stored, computed)) < 1e-5


def test_outputs_of_frozen_lower_layers_are_stored_for_replayed_rows_and_change_no_weight(
    world, monkeypatch, rows_of_layer
):
    first = trained(world, run_of(world, "g1-train-1"))
    frozen = {"epochs": 3, "batchSize": 16, "precision": "FP32", "freeze": {"lowerLayers": 1}}
    options = {
        "hyperparameters": {**frozen, "learningRate": "1e-3"},
        "earlyStopping": {"everySteps": 4, "patience": 90},
        "checkpoint": {"everySteps": 10, "keep": 10},
        "data": later(world),
    }
    rows_of_layer.clear()
    stored = trained(world, run_of(world, "g2-train-1", first.buffer, **options))
    few = sum(rows_of_layer)
    world.train(run_of(world, "g2-train-2", first.buffer, **options))
    for later_one in sorted(world.home.checkpoints(1).iterdir())[1:]:
        shutil.rmtree(later_one)
    resumed = trained(world, run_of(world, "g2-train-3", first.buffer, **options))
    rows_of_layer.clear()
    monkeypatch.setattr(session, "lower_part", lambda *_: [])
    computed = trained(world, run_of(world, "g2-train-4", first.buffer, **options))

    assert stored.replay.rows == computed.replay.rows == 30
    assert stored.artifact.digest == resumed.artifact.digest
    assert few < 0.75 * sum(rows_of_layer)
    folders = [local_path(made.artifact.uri) for made in (stored, computed)]
    assert max(differences(*folders)) < 1e-5


def test_one_epoch_without_validation_stores_nothing(world, caplog):
    caplog.set_level("INFO")
    train(world, "once", {"epochs": 1})
    train(world, "dropout", {"dropout": "0.1"})
    train(world, "nothing frozen", {"freeze": {"lowerLayers": 0}})
    assert "outputs of the lower layers stored" not in caplog.messages
    train(world, "twice", {"epochs": 2})
    assert "outputs of the lower layers stored" in caplog.messages


@pytest.mark.survives(
    "Model",
    "no space for the outputs of frozen layers",
    "training computes them in every step",
)
def test_without_space_the_outputs_are_computed(world, monkeypatch, caplog):
    computed = lower_outputs.shutil.disk_usage("/")._replace(free=100)
    monkeypatch.setattr(lower_outputs.shutil, "disk_usage", lambda _: computed)
    train(world, "full")
    assert "lower layers are computed in every step" in caplog.messages


def test_a_resumed_training_with_stored_outputs_gives_the_same_weights(world):
    more = {"earlyStopping": {"everySteps": 7, "patience": 90}}
    more["checkpoint"] = {"everySteps": 10, "keep": 10}
    whole = train(world, "whole", **more)
    for folder in world.home.checkpoints(1).iterdir():
        if folder.name > "step-000000010":
            shutil.rmtree(folder)
    run = world.run_file("resumed", hyperparameters=OPTIONS, **more)
    assert world.train(run).artifact.digest == whole.name.replace("-", ":", 1)


@pytest.mark.parametrize(
    "model",
    [
        BertForSequenceClassification(BertConfig(**SMALL, **WIDE)),
        RobertaForSequenceClassification(RobertaConfig(**SMALL, **WIDE)),
        DistilBertForSequenceClassification(
            DistilBertConfig(
                vocab_size=50, dim=16, hidden_dim=32, n_layers=2, n_heads=2, dropout=0.0
            )
        ),
        DebertaV2ForSequenceClassification(
            DebertaV2Config(**SMALL, **WIDE, relative_attention=True, pos_att_type=["p2c", "c2p"])
        ),
    ],
    ids=["BERT", "RoBERTa", "DistilBERT", "DeBERTa"],
)
def test_a_pass_from_stored_outputs_gives_the_logits_of_a_whole_pass(model):
    model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    options = Hyperparameters.model_validate(OPTIONS)
    layers = lower_outputs.lower_part(model, options)
    assert len(layers) == 1
    inputs = {
        "input_ids": torch.randint(3, 50, (4, 9)),
        "attention_mask": (torch.arange(9) < torch.tensor([[9], [4], [7], [1]])).long(),
    }
    expected = model(**inputs).logits
    skippable = lower_outputs.Skippable(model, layers)
    assert torch.equal(model(**inputs).logits, expected)
    hidden = skippable.outputs(inputs)
    hidden[inputs["attention_mask"] == 0] = 0
    found = model(**inputs, **{lower_outputs.INPUT: hidden}).logits
    assert torch.allclose(found, expected, atol=1e-6)
    skippable.remove()
    assert torch.equal(model(**inputs).logits, expected)


def test_a_decoder_has_no_part_to_store():
    model = GPT2ForSequenceClassification(
        GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, pad_token_id=0)
    )
    assert lower_outputs.lower_part(model, Hyperparameters.model_validate(OPTIONS)) == []


def test_a_file_of_outputs_that_could_not_be_written_whole_takes_no_space(world, tmp_path, caplog):
    run = world.run_file(hyperparameters=OPTIONS)
    parent = local_path(world.parent.uri)
    rows = training_rows.load(
        world.data[0], world.data[1], run.recipe, parent=parent, scratch=tmp_path
    )
    before, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        made = session.prepare(run, rows, parent, device=torch.device("cpu"), scratch=tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, hard))
    assert "lower layers are computed in every step" in caplog.text
    assert made.rows is rows
    assert list(tmp_path.glob("lower-*")) == []
