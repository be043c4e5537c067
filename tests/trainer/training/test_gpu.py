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
