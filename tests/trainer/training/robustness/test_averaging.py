"""The average of the weights over the steps: what it is, where it is used, and resumed."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from springtide_api.contract import CommittedAdapter, CommittedArtifact, TrainOutput
from springtide_api.update.robustness import Averaging as Options
from springtide_api.update.training import EarlyStopping as Stopping
from springtide_trainer.methods.adapter import WEIGHTS
from springtide_trainer.storage import local_path
from springtide_trainer.training import early_stopping
from springtide_trainer.training.early_stopping import EarlyStopping
from springtide_trainer.training.robustness.averaging import Averaging

EMA = {"averaging": {"ema": "0.8"}}
LAST = {"averaging": {"lastK": 3}}
EVEN = {"batchSize": 16, "learningRate": "3e-3", "schedule": "Constant", "warmup": "0"}
"""The weights after a step do not depend on the number of later steps."""
FULL = {"type": "Full"}
LORA = {"type": "LoRA", "lora": {"rank": 4, "continuation": "Continue"}}


def walk(options: Options, steps: int) -> tuple[Averaging, list[Tensor]]:
    """Average a random walk; return its weights after each step."""
    model, rng = nn.Linear(3, 2), torch.Generator().manual_seed(5)
    made, seen = Averaging(options, model, total=steps), []
    for step in range(1, steps + 1):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3, generator=rng))
        made.observe(step, 0.0)
        seen.append(model.weight.detach().clone())
    return made, seen


def test_ema_is_the_sum_of_all_weights_of_which_each_step_keeps_its_share():
    """Of the decay min(0.8, (1 + t) / (10 + t)) in step t; it reaches 0.8 in step 35."""
    made, seen = walk(Options(ema="0.8"), 60)
    decays = [min(0.8, (1 + step) / (10 + step)) for step in range(1, 61)]
    shares = torch.tensor([1.0, *(1 - decay for decay in decays[1:])])
    for step in range(1, 60):
        shares[:step] *= decays[step]
    assert shares.sum().item() == pytest.approx(1)
    assert shares[0] < 1e-4, "what the run began with has no share left"
    expected = sum(share * weight for share, weight in zip(shares, seen, strict=True))
    torch.testing.assert_close(made.mean["weight"], expected)


@pytest.mark.parametrize(("last", "first"), [(4, 6), (10, 0), (50, 0)])
def test_last_k_is_the_mean_of_the_weights_after_the_last_steps(last, first):
    made, seen = walk(Options(last_k=last), 10)
    torch.testing.assert_close(made.mean["weight"], torch.stack(seen[first:]).mean(dim=0))


def test_frozen_weights_are_not_averaged():
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(requires_grad=False)
    made = Averaging(Options(ema="0.9"), model, total=2)
    made.observe(1, 0.0)
    assert made.mean.keys() == {"weight"}


def test_the_average_is_in_the_place_of_the_weights_while_it_is_validated_and_not_later():
    made, seen = walk(Options(ema="0.8"), 5)
    model = nn.Linear(3, 2)
    made._weights = dict(model.named_parameters())
    before, mean = model.weight.detach().clone(), made.mean["weight"].clone()
    storage = model.weight.data_ptr()

    with made.in_place():
        assert torch.equal(model.weight, mean)
        assert model.weight.data_ptr() == storage, "recorded steps read and write this memory"

    assert torch.equal(model.weight, before)
    assert torch.equal(made.mean["weight"], mean)
    made.load()
    assert torch.equal(model.weight, mean)
    assert len(seen) == 5


def weights(made: CommittedArtifact | CommittedAdapter | None) -> dict[str, Tensor]:
    assert made is not None
    name = "model.safetensors" if isinstance(made, CommittedArtifact) else WEIGHTS
    return load_file(local_path(made.uri) / name)


@pytest.mark.parametrize("method", [FULL, LORA], ids=["Full", "LoRA"])
def test_the_artifact_has_the_mean_of_the_weights_after_the_last_steps(world, method):
    """Trainings of 8, 9 and 10 steps have the weights after these steps of the one that averages.

    With LoRA the mean is that of the adapters: the next generation continues them.
    """

    def train(job: str, steps: int, **more: Any) -> TrainOutput:
        shutil.rmtree(world.home.checkpoints(1), ignore_errors=True)
        tuned = {**EVEN, "maxSteps": steps}
        made: TrainOutput = world.train(
            world.run_file(job, hyperparameters=tuned, method=method, **more)
        )
        return made

    after = [train(f"to-{steps}", steps) for steps in (8, 9, 10)]
    found = train("mean", 10, robustness=LAST)
    parts = [[each.adapter for each in after], found.adapter]
    if method is FULL:
        parts = [[each.artifact for each in after], found.artifact]
    each_of, mean = [weights(part) for part in parts[0]], weights(parts[1])
    moved = [name for name in mean if not torch.equal(each_of[0][name], each_of[2][name])]
    assert len(moved) > 5
    for name in mean:
        expected = torch.stack([one[name] for one in each_of]).mean(dim=0)
        torch.testing.assert_close(mean[name], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("method", [FULL, LORA], ids=["Full", "LoRA"])
def test_early_stopping_validates_averages_and_keeps_the_best_one(world, monkeypatch, method):
    """The training itself does not change: the weights of its steps are those without average."""
    seen: dict[int, Tensor] = {}
    observe = EarlyStopping.observe

    def recording(self: EarlyStopping, step: int, loss: float) -> None:
        observe(self, step, loss)
        seen[step] = dict(self._model.named_parameters())["classifier.weight"].detach().clone()

    monkeypatch.setattr(early_stopping.EarlyStopping, "observe", recording)
    more = {
        "hyperparameters": {**EVEN, "epochs": 2},
        "earlyStopping": {"everySteps": 6, "patience": 9},
        "method": method,
    }
    averaged = world.train(world.run_file("ema", robustness=EMA, **more))
    means = dict(seen)
    seen.clear()
    world.train(world.run_file("plain", **more))

    assert torch.equal(means.pop(0), seen.pop(0)), "the parent's weights"
    assert means.keys() == seen.keys() == {6, 12, 18, 24, 28}
    assert not any(torch.equal(means[step], seen[step]) for step in means)
    best = means[int(averaged.metrics["best_step"])]
    assert torch.equal(weights(averaged.artifact)["classifier.weight"], best)


def test_an_average_can_be_the_best_weights_while_training_goes_on():
    model = nn.Linear(1, 1, bias=False)
    values: list[float] = []

    def measure() -> float:
        values.append(model.weight.item())
        return abs(model.weight.item() - 1)

    stopping = EarlyStopping(
        Stopping(every_steps=1), model, metric="log_loss", last=3, measure=measure
    )
    averaging = Averaging(Options(ema="0.5"), model, total=3)
    for step, value in enumerate((0.0, 2.0, 0.0), start=1):
        with torch.no_grad():
            model.weight.fill_(value)
        averaging.observe(step, 0.0)
        with averaging.in_place():
            stopping.observe(step, 0.0)
        assert model.weight.item() == value
    assert values == pytest.approx([0.0, 1.5, 1.5 * 4 / 13])
    assert stopping.best["weight"].item() == 1.5


CASES = [
    pytest.param({"robustness": EMA}, id="ema"),
    pytest.param({"robustness": LAST}, id="last k"),
    pytest.param({"robustness": LAST, "method": LORA}, id="last k of adapters"),
    pytest.param(
        {"robustness": EMA, "earlyStopping": {"everySteps": 4, "patience": 9}}, id="validated"
    ),
]


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("step", [6, 12])
def test_a_resumed_training_gives_the_same_weights(world, options, step):
    tuned = {**EVEN, "maxSteps": 13, "dropout": "0.1"}
    more = {**options, "hyperparameters": tuned, "checkpoint": {"everySteps": 6, "keep": 9}}
    whole = world.train(world.run_file("whole", **more))
    for folder in world.home.checkpoints(1).iterdir():
        if folder.name != f"step-{step:09d}":
            shutil.rmtree(folder)
    resumed = world.train(world.run_file("resumed", **more))
    assert resumed.artifact.digest == whole.artifact.digest
    assert resumed.adapter == whole.adapter


def test_a_checkpoint_without_the_average_is_not_used(world, caplog):
    tuned = {"hyperparameters": {**EVEN, "maxSteps": 8}, "checkpoint": {"everySteps": 4}}
    world.train(world.run_file("plain", **tuned))
    world.train(world.run_file("averaged", robustness=EMA, **tuned))
    assert "checkpoint belongs to another run" in caplog.text


@pytest.mark.parametrize("robustness", [EMA, LAST], ids=["ema", "last k"])
def test_halved_passes_give_the_same_average_within_rounding(world, robustness):
    tuned = {"batchSize": 8, "gradientAccumulation": 4, "optimizer": "SGD", "learningRate": "0.1"}
    found = []
    for divisor in (1, 8):
        run = world.run_file(
            f"of-{divisor}",
            divisor=divisor,
            hyperparameters={**tuned, "precision": "FP32"},
            robustness=robustness,
        )
        found.append(weights(world.train(run).artifact))
    for name in found[0]:
        torch.testing.assert_close(found[1][name], found[0][name], atol=1e-5, rtol=0)
