"""Every training option has its documented effect."""

from __future__ import annotations

import json
import re

import pytest
import torch
from safetensors.torch import load_file
from transformers.models.bert.modeling_bert import BertLayer

from springtide_api.contract import CommittedArtifact, ExitCode
from springtide_trainer.artifact.models import load
from springtide_trainer.errors import Diverged, Refused
from springtide_trainer.storage import Home, folder_name, local_path
from springtide_trainer.training import optimizer, precision

QUICK = {"epochs": 1, "batchSize": 16, "learningRate": "1e-2"}


def weights(made: CommittedArtifact) -> dict[str, torch.Tensor]:
    return load_file(local_path(made.uri) / "model.safetensors")


def trained_parameters(world, **hyperparameters) -> set[str]:
    """Train, and return the names of the weights that changed."""
    run = world.run_file(hyperparameters=QUICK | hyperparameters)
    before, after = weights(world.parent), weights(world.train(run).artifact)
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_only_word_embeddings_are_frozen_by_default(world):
    assert "bert.embeddings.word_embeddings.weight" not in trained_parameters(world)
    assert {
        "bert.embeddings.position_embeddings.weight",
        "classifier.weight",
    } <= trained_parameters(world)


def test_word_embeddings_can_be_trained(world):
    assert "bert.embeddings.word_embeddings.weight" in trained_parameters(
        world, freeze={"embeddings": False}
    )


def test_frozen_lower_layers_include_all_embeddings(world):
    names = trained_parameters(world, freeze={"lowerLayers": 1})
    assert not [name for name in names if "embeddings" in name or "layer.0." in name]
    assert [name for name in names if "layer.1." in name]


def test_freezing_more_layers_than_the_model_has_is_refused_with_both_numbers(world):
    with pytest.raises(Refused, match="lowerLayers is 3, the model has 2 layers") as refused:
        trained_parameters(world, freeze={"lowerLayers": 3})
    assert refused.value.failure.field == "spec.training.hyperparameters.freeze.lowerLayers"


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD", "Adafactor"])
@pytest.mark.parametrize("schedule", ["Linear", "Cosine", "Constant"])
def test_each_optimizer_and_schedule_trains(world, optimizer, schedule):
    assert "classifier.weight" in trained_parameters(world, optimizer=optimizer, schedule=schedule)


@pytest.mark.parametrize("optimizer", ["AdamW", "SGD", "Adafactor"])
def test_each_optimizer_resumes_to_the_same_weights(world, optimizer):
    options = {**QUICK, "epochs": 2, "optimizer": optimizer}
    whole = world.run_file("whole", hyperparameters=options, checkpoint={"everySteps": 20})
    digest = world.train(whole).artifact.digest
    assert [path.name for path in world.home.checkpoints(1).iterdir()] == ["step-000000020"]
    assert world.train(whole.model_copy(update={"job": "resumed"})).artifact.digest == digest


def test_gradient_checkpointing_gives_the_same_weights(world):
    plain = world.run_file("plain", hyperparameters={**QUICK, "dropout": "0.1"})
    saving = {**QUICK, "dropout": "0.1", "gradientCheckpointing": True}
    again = world.run_file("again", hyperparameters=saving)
    assert world.train(plain).artifact.digest == world.train(again).artifact.digest


def test_gradient_checkpointing_computes_the_outputs_of_each_layer_again(world, monkeypatch):
    calls, computed = [], BertLayer.feed_forward_chunk  # its forward is what is checkpointed

    def counted(self: BertLayer, outputs: torch.Tensor) -> torch.Tensor:
        calls.append(self)
        return computed(self, outputs)

    monkeypatch.setattr(BertLayer, "feed_forward_chunk", counted)
    found = []
    for saving in (False, True):
        calls.clear()
        options = {"maxSteps": 1, "batchSize": 8, "gradientCheckpointing": saving}
        world.train(world.run_file(f"saving-{saving}", hyperparameters=options))
        found.append(len(calls))
    plain, again = found
    assert again == 2 * plain > 0


def test_dropout_changes_the_weights_but_not_the_configuration(world):
    def config(made: CommittedArtifact) -> str:
        return (local_path(made.uri) / "config.json").read_text()

    without = world.train(world.run_file("without", hyperparameters=QUICK)).artifact
    with_ = world.train(
        world.run_file("with", hyperparameters={**QUICK, "dropout": "0.5"})
    ).artifact
    assert without.digest != with_.digest
    assert config(without) == config(with_) == config(world.parent)
    assert json.loads(config(with_))["hidden_dropout_prob"] == 0.1


def test_weight_decay_applies_to_matrices_only(world):
    model = load(local_path(world.parent.uri), world.parent.digest).model
    built = optimizer.build("AdamW", model, learning_rate=0.1, weight_decay=0.5)
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)

    built.step()

    for name, weight in model.named_parameters():
        expected = before[name] * (1 - 0.1 * 0.5) if weight.ndim > 1 else before[name]
        torch.testing.assert_close(weight.detach(), expected)


def test_the_learning_rate_of_a_step_is_a_number_or_in_a_tensor_that_recorded_steps_read(world):
    model = load(local_path(world.parent.uri), world.parent.digest).model
    plain, recorded = (
        optimizer.build("AdamW", model, learning_rate=0.1, weight_decay=0.5, recorded=each)
        for each in (False, True)
    )
    held = [group["lr"] for group in recorded.param_groups]
    for built in (plain, recorded):
        optimizer.set_learning_rate(built, 0.25)
    assert [group["lr"] for group in plain.param_groups] == [0.25, 0.25]
    assert all(group["lr"] is kept for group, kept in zip(recorded.param_groups, held, strict=True))
    assert [float(kept) for kept in held] == [0.25, 0.25]


def test_max_steps_can_end_within_an_epoch_or_after_several(world):
    few = world.train(world.run_file(hyperparameters={"maxSteps": 3, "batchSize": 16}))
    many = world.train(world.run_file(hyperparameters={"maxSteps": 40, "batchSize": 16}))
    assert (few.steps, few.stop_reason) == (3, "maxSteps")
    assert (many.steps, many.stop_reason) == (40, "maxSteps")


@pytest.mark.survives(
    "Model",
    "a loss that is no longer a number",
    "ends as diverged with step, loss and field; no weights are committed",
)
def test_a_nan_loss_is_diverged(world):
    wild = {"maxSteps": 50, "batchSize": 16, "learningRate": "1e30", "schedule": "Constant"}
    run = world.run_file(hyperparameters={**wild, "optimizer": "SGD", "maxGradNorm": "1e30"})
    with pytest.raises(Diverged, match="learningRate") as diverged:
        world.train(run)
    assert diverged.value.code == ExitCode.DIVERGED
    found = r"(loss|gradient norm) is (nan|inf) at step \d+; lower"
    assert re.match(found, diverged.value.failure.message)
    assert diverged.value.failure.field == "spec.training.hyperparameters.learningRate"
    assert [path.name for path in (world.home.path / "artifacts").iterdir()] == [
        folder_name(world.parent.digest)
    ]


def test_fp16_without_a_gpu_is_refused(world):
    with pytest.raises(Refused, match="FP16 needs a GPU"):
        precision.resolve("FP16", torch.device("cpu"))


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        (["avx512_bf16"], "BF16"),
        (["avx512_bf16", "avx512_fp16", "amx_bf16"], "BF16"),
        (["avx512_bf16", "avx512_fp16"], "FP32"),
        (["bf16"], "BF16"),
        (["avx512_fp16"], "FP32"),
        ([], "FP32"),
    ],
)
def test_auto_is_bf16_only_if_the_hardware_computes_it_faster(monkeypatch, able, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: dict.fromkeys(able, True))
    assert precision.resolve("Auto", torch.device("cpu")).name == expected


def test_appended_labels_extend_the_head_and_keep_its_rows(world, freeze_rows, recipe_with):
    rows = {"text": ["good", "bad"] * 8, "label": ["maybe", "no"] * 8}
    rows["entity"] = [str(number) for number in range(16)]
    run = world.run_file(hyperparameters={"batchSize": 4, "learningRate": "1e-9"})
    run = recipe_with(run, ["no", "yes", "maybe"], freeze_rows(world.home, rows))
    made = world.train(run).artifact
    scorer = load(local_path(made.uri), made.digest)
    assert scorer.preprocess.labels == ["no", "yes", "maybe"]
    assert scorer.predict([("good", None)]).shape == (1, 3)
    torch.testing.assert_close(
        weights(made)["classifier.weight"][:2], weights(world.parent)["classifier.weight"]
    )


@pytest.mark.parametrize("batch_size", [1, 8])
def test_row_weights_have_their_effect_for_any_number_of_rows_per_step(
    world, freeze_rows, recipe_with, batch_size
):
    """Two halves with opposite labels: the one with the higher weights determines the result."""
    rows = {"text": ["good"] * 64, "label": ["yes", "no"] * 32, "weight": [9.0, 1.0] * 32}
    rows["entity"] = [str(number) for number in range(64)]
    options = {"batchSize": batch_size, "epochs": 8, "learningRate": "1e-3", "maxGradNorm": "1e3"}
    if batch_size == 1:
        options |= {"optimizer": "SGD", "learningRate": "1e-3"}
    run = recipe_with(world.run_file(hyperparameters=options), None, freeze_rows(world.home, rows))
    made = world.train(run).artifact
    scores = load(local_path(made.uri), made.digest).predict([("good", None)])
    assert scores[0, 1] == pytest.approx(0.9, abs=0.08)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_not_a_finite_number_from_0_is_refused(
    world, freeze_rows, recipe_with, weight
):
    rows = {"text": ["good"] * 2, "label": ["yes", "no"], "weight": [1.0, weight]}
    rows["entity"] = ["a", "b"]
    run = recipe_with(world.run_file(), None, freeze_rows(world.home, rows))
    with pytest.raises(Refused, match="training row 1 has weight") as refused:
        world.train(run)
    assert refused.value.failure.field == "spec.data.source.columns.weight"


@pytest.mark.survives(
    "Model",
    "one flipped bit in the live weights when training starts",
    "refused with the file and both hashes; no weights are committed",
)
def test_a_flipped_bit_in_the_parent_is_refused(world):
    path = local_path(world.parent.uri) / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(Refused, match=r"model\.safetensors .* sha256 .* not ") as refused:
        world.train(world.run_file())
    assert refused.value.failure.reason == "DigestMismatch"
    assert len(list((world.home.path / "artifacts").iterdir())) == 1


def test_training_learns_the_toy_task(world):
    options = {
        "epochs": 6,
        "batchSize": 16,
        "learningRate": "5e-3",
        "freeze": {"embeddings": False},
    }
    made = world.train(world.run_file(hyperparameters=options)).artifact
    scorer = load(local_path(made.uri), made.digest)
    scores = scorer.predict([("the good shoe", None), ("a broken lamp", None)])
    assert scores[0, 1] > 0.9
    assert scores[1, 1] < 0.1


def test_a_training_leaves_no_other_files_in_the_storage(world):
    world.train(world.run_file(hyperparameters=QUICK))
    home: Home = world.home
    assert not list((home.path / "tmp").iterdir())
