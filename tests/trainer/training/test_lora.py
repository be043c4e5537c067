"""A training with LoRA, from the parent's artifact to the candidate's."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from springtide_api.update.training import Training
from springtide_trainer.artifact.models import load
from springtide_trainer.errors import Refused
from springtide_trainer.methods.table import METHODS
from springtide_trainer.storage import local_path
from springtide_trainer.tasks.classification import Classification
from springtide_trainer.training import warm_start

QUICK = {"epochs": 1, "batchSize": 16, "learningRate": "1e-2"}


def lora(**options: object) -> dict[str, object]:
    return {"type": "LoRA", "lora": {"rank": 4, **options}}


def weights(made) -> dict[str, torch.Tensor]:
    return load_file(local_path(made.uri) / "model.safetensors")


def changed(world, made) -> set[str]:
    before, after = weights(world.parent), weights(made)
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_weights_of_linear_layers_and_the_head_change_and_nothing_else(world):
    made = world.train(world.run_file(method=lora(), hyperparameters=QUICK)).artifact
    linear = {
        name
        for name, weight in weights(world.parent).items()
        if weight.ndim == 2 and "embeddings" not in name
    }
    assert changed(world, made) == linear | {"classifier.bias"}


def test_the_artifact_has_the_files_and_the_configuration_of_the_parent(world):
    made = world.train(world.run_file(method=lora(), hyperparameters=QUICK)).artifact
    parent, candidate = local_path(world.parent.uri), local_path(made.uri)
    assert {path.name for path in candidate.iterdir()} == {path.name for path in parent.iterdir()}
    assert (candidate / "config.json").read_text() == (parent / "config.json").read_text()


def test_target_modules_and_frozen_layers_limit_what_changes(world):
    options = {**QUICK, "epochs": 2, "freeze": {"lowerLayers": 1}}
    run = world.run_file(method=lora(targetModules=["value"]), hyperparameters=options)
    assert changed(world, world.train(run).artifact) == {
        "bert.encoder.layer.1.attention.self.value.weight",
        "classifier.weight",
        "classifier.bias",
    }


@pytest.mark.parametrize(
    ("method", "dropout"),
    [
        (lora(), "0"),
        (lora(dropout="0.2"), "0.1"),
        (lora(dora=True), "0"),
        (lora(quantization="NF4"), "0.1"),
    ],
)
def test_a_resumed_training_gives_the_weights_of_an_uninterrupted_one(world, method, dropout):
    options = {**QUICK, "epochs": 2, "dropout": dropout}
    whole = world.run_file(
        "whole", method=method, hyperparameters=options, checkpoint={"everySteps": 20}
    )
    digest = world.train(whole).artifact.digest
    (checkpoint,) = world.home.checkpoints(1).iterdir()
    assert checkpoint.name == "step-000000020"
    held = load_file(checkpoint / "state.safetensors")
    names = {name.removeprefix("weights/") for name in held if name.startswith("weights/")}
    assert all("lora_" in name or name.startswith("classifier.") for name in names)
    assert world.train(whole.model_copy(update={"job": "resumed"})).artifact.digest == digest


def test_halved_batches_give_adapters_in_four_bits_the_same_weights_but_for_rounding(world):
    options = {**QUICK, "dropout": "0", "optimizer": "SGD", "learningRate": "1e-2"}
    whole, halved = (
        weights(
            world.train(
                world.run_file(
                    f"of-{divisor}",
                    divisor=divisor,
                    method=lora(quantization="NF4"),
                    hyperparameters=options,
                )
            ).artifact
        )
        for divisor in (1, 8)
    )
    for name, weight in whole.items():
        torch.testing.assert_close(halved[name], weight, rtol=0, atol=1e-5)


def test_dropout_of_adapters_changes_what_they_learn(world):
    def adapters(dropout: str) -> str:
        options = {**QUICK, "dropout": "0"}
        run = world.run_file(dropout, method=lora(dropout=dropout), hyperparameters=options)
        return world.train(run).artifact.digest

    assert adapters("0") != adapters("0.5")


def test_a_checkpoint_of_another_method_is_not_used(world, caplog):
    options = {**QUICK, "epochs": 2}
    world.train(world.run_file(hyperparameters=options, checkpoint={"everySteps": 20}))
    run = world.run_file(method=lora(), hyperparameters=options, checkpoint={"everySteps": 20})
    world.train(run)
    assert "checkpoint belongs to another run" in caplog.text


def test_the_default_learning_rate_is_that_of_the_method(world):
    def digest(job: str, **options: object) -> str:
        hyperparameters = {"maxSteps": 4, "batchSize": 16, **options}
        run = world.run_file(job, method=lora(), hyperparameters=hyperparameters)
        return world.train(run).artifact.digest

    assert digest("default") == digest("given", learningRate="5e-4")
    assert digest("other", learningRate="2e-5") != digest("default")


def test_training_with_adapters_learns_the_toy_task(world):
    options = {"epochs": 8, "batchSize": 16, "learningRate": "1e-2"}
    made = world.train(world.run_file(method=lora(), hyperparameters=options)).artifact
    scores = load(local_path(made.uri), made.digest).predict(
        [("the good shoe", None), ("a broken lamp", None)]
    )
    assert scores[0, 1] > 0.9
    assert scores[1, 1] < 0.1


def test_early_stopping_without_a_gain_keeps_the_weights_of_the_parent(world):
    run = world.run_file(
        method=lora(),
        hyperparameters={**QUICK, "maxSteps": 4, "epochs": None},
        earlyStopping={"everySteps": 2, "patience": 1, "minDelta": "1000"},
    )
    made = world.train(run).artifact
    assert changed(world, made) == set()


def test_appended_labels_extend_the_head_before_the_adapters(world, freeze_rows, recipe_with):
    rows = {"text": ["good", "bad"] * 8, "label": ["maybe", "no"] * 8}
    rows["entity"] = [str(number) for number in range(16)]
    run = world.run_file(method=lora(), hyperparameters={"batchSize": 4, "learningRate": "1e-9"})
    run = recipe_with(run, ["no", "yes", "maybe"], freeze_rows(world.home, rows))
    made = world.train(run).artifact
    scorer = load(local_path(made.uri), made.digest)
    assert scorer.preprocess.labels == ["no", "yes", "maybe"]
    assert scorer.predict([("good", None)]).shape == (1, 3)
    torch.testing.assert_close(
        weights(made)["classifier.weight"][:2], weights(world.parent)["classifier.weight"]
    )


def test_adapters_of_other_rows_start_elsewhere_so_that_generations_do_not_share_a_subspace(world):
    def first(salt: str) -> torch.Tensor:
        model = warm_start.load(
            local_path(world.parent.uri),
            Training.model_validate({"method": lora()}),
            task=Classification(["no", "yes"]),
            method=METHODS["LoRA"],
            salt=salt,
        )
        return next(weight for name, weight in model.named_parameters() if "lora_A" in name)

    assert torch.equal(first("sha256:1"), first("sha256:1"))
    assert not torch.equal(first("sha256:1"), first("sha256:2"))


def test_unknown_target_modules_end_the_run_before_its_first_step(world):
    run = world.run_file(method=lora(targetModules=["q_proj"]), hyperparameters=QUICK)
    with pytest.raises(Refused, match="q_proj: no such linear layer") as refused:
        world.train(run)
    assert refused.value.failure.field == "spec.training.method.lora.targetModules"
    assert not world.home.checkpoints(1).exists()


def test_gradient_checkpointing_gives_the_same_adapters(world):
    options = {**QUICK, "dropout": "0.1"}
    plain = world.run_file("plain", method=lora(), hyperparameters=options)
    saving = world.run_file(
        "saving", method=lora(), hyperparameters={**options, "gradientCheckpointing": True}
    )
    assert world.train(plain).artifact.digest == world.train(saving).artifact.digest


def test_the_evaluation_and_the_server_need_no_peft(world):
    """A merged artifact names no adapter: nothing in it refers to peft."""
    made = world.train(world.run_file(method=lora(), hyperparameters=QUICK)).artifact
    folder = local_path(made.uri)
    settings = json.loads((folder / "config.json").read_text())
    assert "adapter" not in json.dumps(settings)
    assert not [name for name in weights(made) if "lora" in name]
