"""Training on a GPU: deterministic weights and all precisions. Skipped without a GPU."""

from __future__ import annotations

import pytest
import torch

from springtide_trainer.artifact.models import load
from springtide_trainer.storage import local_path

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU: PyTorch finds none on this machine"
)

FORMATS = ["FP32", "BF16", "FP16"]


def options(**changes: object) -> dict[str, object]:
    return {"epochs": 2, "batchSize": 16, "learningRate": "1e-3", "dropout": "0.1", **changes}


@pytest.mark.parametrize("number_format", FORMATS)
def test_the_same_seed_gives_the_same_weights_on_a_gpu(world, number_format):
    def digest(job: str, seed: int) -> str:
        hyperparameters = options(precision=number_format, seed=seed, deterministic=True)
        return world.train(world.run_file(job, hyperparameters=hyperparameters)).artifact.digest

    assert digest("first", 17) == digest("second", 17)
    assert digest("third", 18) != digest("first", 17)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("number_format", FORMATS)
def test_training_works_on_a_gpu_in_every_precision(world, number_format, deterministic):
    task = {"epochs": 6, "learningRate": "5e-3", "freeze": {"embeddings": False}}
    hyperparameters = options(precision=number_format, deterministic=deterministic, **task)
    made = world.train(world.run_file("learns", hyperparameters=hyperparameters)).artifact
    scorer = load(local_path(made.uri), made.digest)
    scores = scorer.predict([("the good shoe", None), ("a broken lamp", None)])
    assert scores[0, 1] > 0.9
    assert scores[1, 1] < 0.1


def test_auto_is_bf16_if_the_gpu_supports_it(world):
    able = torch.cuda.is_bf16_supported(including_emulation=False)
    made = {
        name: world.train(
            world.run_file(name, hyperparameters=options(precision=name, deterministic=True))
        )
        for name in ("Auto", "BF16" if able else "FP32")
    }
    assert len({each.artifact.digest for each in made.values()}) == 1


def weights(made) -> torch.Tensor:
    state = load(local_path(made.artifact.uri), made.artifact.digest, "cpu").model.state_dict()
    return torch.cat([each.flatten().float() for each in state.values()])


def test_a_resumed_training_with_recorded_steps_gives_the_same_weights_but_for_rounding(world):
    """The steps after a checkpoint run one by one first, and are recorded again."""
    hyperparameters = options(precision="FP32")
    whole = world.run_file("whole", hyperparameters=hyperparameters, checkpoint={"everySteps": 20})
    expected = weights(world.train(whole))
    found = weights(world.train(whole.model_copy(update={"job": "resumed"})))
    assert torch.allclose(found, expected, atol=1e-3), (found - expected).abs().max()


@pytest.mark.parametrize(
    "training",
    [
        {
            "method": {"type": "LoRA", "lora": {"rank": 8, "alpha": 16}},
            "hyperparameters": {"freeze": {}, "epochs": 12, "learningRate": "2e-2"},
        },
        {"earlyStopping": {"everySteps": 20, "patience": 5}},
        {"hyperparameters": {"gradientAccumulation": 2, "epochs": 12}},
        {"hyperparameters": {"gradientCheckpointing": True}},
        {"hyperparameters": {"optimizer": "SGD", "learningRate": "0.2"}},
        {"hyperparameters": {"freeze": {"lowerLayers": 1, "embeddings": False}}},
    ],
    ids=["lora", "early stopping", "accumulation", "gradient checkpointing", "SGD", "frozen"],
)
def test_training_works_on_a_gpu_with_every_option_that_changes_a_step(world, training):
    own = {"epochs": 6, "learningRate": "5e-3", "freeze": {"embeddings": False}}
    own |= training.get("hyperparameters", {})
    run = world.run_file("option", **(training | {"hyperparameters": options(**own)}))
    made = world.train(run)
    assert made.metrics["loss"] < 0.75
    assert made.artifact.digest != world.parent.digest
