"""Class weights and the focal loss in whole trainings: of any number of passes, and resumed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from trainer.training.conftest import LABELS, World, freeze, toy_rows

from springtide_trainer.artifact.models import load
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from pathlib import Path

FOCAL = {"loss": {"type": "Focal", "focal": {"gamma": "2"}}}
BALANCED = {"classWeights": "Balanced"}
OPTIONS = [pytest.param(FOCAL, id="focal"), pytest.param(BALANCED, id="balanced")]
SGD = {"batchSize": 8, "gradientAccumulation": 4, "optimizer": "SGD", "learningRate": "0.1"}


def rare(count: int) -> dict[str, list[Any]]:
    """Rows of which every fourth keeps its label if that is yes: 7 no for each yes."""
    rows = toy_rows(count)
    rows["label"] = [
        label if number % 4 == 0 else "no" for number, label in enumerate(rows["label"])
    ]
    return rows


def learning(world: World, options: dict[str, Any]) -> World:
    return World(
        world.home,
        world.parent,
        freeze(world.home, rare(240)),
        {"labels": LABELS, "classification": options},
    )


def folder(world: World, job: str, *, divisor: int = 1, **training: Any) -> Path:
    run = world.run_file(job, divisor=divisor, **training)
    return local_path(world.train(run).artifact.uri)


def weights(found: Path) -> torch.Tensor:
    values = load_file(found / "model.safetensors").values()
    return torch.cat([value.flatten() for value in values])


@pytest.mark.parametrize(("options", "expected"), [({}, 6 / 64), (BALANCED, 0.5)])
def test_a_rare_label_counts_as_much_as_a_frequent_one(world, options, expected):
    rows = {"text": ["good"] * 64, "label": ["yes"] * 6 + ["no"] * 58}
    rows["entity"] = [str(number) for number in range(64)]
    ready = learning(world, options)
    ready.data = freeze(world.home, rows)
    tuned = {"batchSize": 64, "epochs": 60, "learningRate": "5e-3", "maxGradNorm": "1e3"}
    made = ready.train(ready.run_file(hyperparameters=tuned)).artifact
    scores = load(local_path(made.uri), made.digest).predict([("good", None)])
    assert scores[0, 1] == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("options", OPTIONS)
def test_halved_passes_give_the_same_weights_within_rounding(world, options):
    ready, tuned = learning(world, options), {"hyperparameters": {**SGD, "precision": "FP32"}}
    whole, halved = (
        weights(folder(ready, f"of-{divisor}", divisor=divisor, **tuned)) for divisor in (1, 8)
    )
    torch.testing.assert_close(halved, whole, atol=1e-5, rtol=0)
    plain = weights(folder(learning(world, {}), "plain", **tuned))
    assert (plain - whole).abs().max() > 1e-3, "the option has an effect"


@pytest.mark.parametrize("options", OPTIONS)
def test_a_resumed_training_gives_the_same_weights(world, options):
    ready = learning(world, options)
    tuned = {"hyperparameters": {**SGD, "dropout": "0.1"}, "checkpoint": {"everySteps": 4}}
    whole = folder(ready, "whole", **tuned)
    (first, *later) = sorted(world.home.checkpoints(1).iterdir())
    assert first.name == "step-000000004"
    for each in later:
        shutil.rmtree(each)
    assert folder(ready, "resumed", **tuned).name == whole.name


def test_validation_and_metrics_do_not_use_class_weights(world):
    stopping = {"everySteps": 5, "patience": 9, "metric": "log_loss"}
    tuned = {"hyperparameters": {"learningRate": "1e-9"}, "earlyStopping": stopping}
    values = []
    for number, options in enumerate([{}, BALANCED, FOCAL]):
        ready = learning(world, options)
        values.append(ready.train(ready.run_file(f"of-{number}", **tuned)).metrics["validation"])
    assert values == pytest.approx([values[0]] * 3, abs=1e-5)
