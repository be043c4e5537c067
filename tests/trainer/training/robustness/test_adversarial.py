"""Adversarial passes against their source, with every architecture, cut into passes and resumed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from trainer.architectures import ARCHITECTURES
from transformers import AutoModelForSequenceClassification

from springtide_trainer.errors import Refused
from springtide_trainer.storage import local_path
from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.task import Batch
from springtide_trainer.training.robustness.adversarial import Adversarial, disturbance

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_api.contract import CommittedArtifact

OBJECTIVE = Classification(["no", "yes"]).objective
ADVERSARIAL = {"adversarial": {"epsilon": "2"}}
SGD = {"batchSize": 8, "gradientAccumulation": 4, "optimizer": "SGD", "learningRate": "0.1"}
FP32 = {**SGD, "precision": "FP32"}


def unscaled(loss: Tensor) -> Tensor:
    return loss


def batch(rows: int = 4, width: int = 9) -> Batch:
    rng = torch.Generator().manual_seed(2)
    lengths = torch.randint(3, width + 1, (rows,), generator=rng)
    lengths[0] = width
    mask = (torch.arange(width) < lengths[:, None]).long()
    tokens = torch.randint(4, 99, (rows, width), generator=rng) * mask
    labels = torch.randint(0, 2, (rows,), generator=rng)
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])[:rows]
    return Batch({"input_ids": tokens, "attention_mask": mask}, labels, weights)


def model_of(name: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(ARCHITECTURES[name]).eval()


def test_the_disturbance_of_a_row_has_the_length_epsilon_and_the_direction_of_its_gradient():
    gradient = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))
    for scaled in (gradient, 1e-6 * gradient, 65536 * gradient):
        found = disturbance(scaled, 0.5)
        torch.testing.assert_close(found.flatten(1).norm(dim=1), torch.full((3,), 0.5))
        torch.testing.assert_close(
            found, 0.5 * gradient / gradient.flatten(1).norm(dim=1)[:, None, None]
        )


def test_a_row_without_a_usable_gradient_is_not_disturbed():
    gradient = torch.ones(4, 2, 2)
    gradient[1], gradient[2, 0, 0], gradient[3, 0, 0] = 0.0, float("inf"), float("nan")
    found = disturbance(gradient, 2.0)
    assert found[0].eq(1.0).all()
    assert found[1:].eq(0.0).all()


@pytest.mark.parametrize("frozen", [True, False], ids=["frozen embeddings", "trained embeddings"])
def test_loss_and_gradients_are_those_of_the_paper(frozen):
    """Miyato et al. 2017: computed from embeddings that are given to the model as its inputs."""
    model, given = model_of("bert"), batch()
    words = model.get_input_embeddings()
    words.weight.requires_grad_(requires_grad=not frozen)

    def loss_of(embedded: Tensor) -> Tensor:
        mask = given.inputs["attention_mask"]
        return OBJECTIVE(
            model,
            Batch({"inputs_embeds": embedded, "attention_mask": mask}, given.labels, given.weights),
        )

    embedded = words(given.inputs["input_ids"])
    leaf = embedded.detach().requires_grad_()
    (slope,) = torch.autograd.grad(loss_of(leaf), leaf)
    moved = 2.0 * slope / slope.flatten(1).norm(dim=1)[:, None, None]
    expected = loss_of(embedded) + loss_of(embedded + moved)
    expected.backward()
    gradients = {name: each.grad for name, each in model.named_parameters()}
    model.zero_grad()

    found = Adversarial(OBJECTIVE, 2.0, scale=unscaled)(model, given)
    found.backward()

    torch.testing.assert_close(found, expected)
    assert (words.weight.grad is None) is frozen
    for name, each in model.named_parameters():
        if gradients[name] is not None:
            torch.testing.assert_close(each.grad, gradients[name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_loss_of_disturbed_rows_is_higher_and_nothing_of_it_stays_in_the_model(name):
    model, given = model_of(name), batch()
    model.get_input_embeddings().requires_grad_(requires_grad=False)
    plain = OBJECTIVE(model, given).detach()
    found = Adversarial(OBJECTIVE, 0.1, scale=unscaled)(model, given).detach()
    assert found - 2 * plain > 1e-5
    assert torch.equal(OBJECTIVE(model, given).detach(), plain)
    assert not model.get_input_embeddings()._forward_hooks


def test_a_model_that_looks_no_embedding_up_is_refused():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused, self.weight = nn.Embedding(3, 2), nn.Parameter(torch.ones(2))

        def get_input_embeddings(self) -> nn.Module:
            return self.unused

    with pytest.raises(Refused, match="looks no word embedding up") as refused:
        Adversarial(lambda model, _: model.weight.sum(), 1.0, scale=unscaled)(Odd(), batch())
    assert refused.value.failure.field == "spec.training.robustness.adversarial"


def folder(made: CommittedArtifact) -> Path:
    return local_path(made.uri)


def weights(made: CommittedArtifact) -> Tensor:
    values = load_file(folder(made) / "model.safetensors").values()
    return torch.cat([value.flatten() for value in values])


def test_halved_passes_give_the_same_weights_within_rounding(world):
    more = {"hyperparameters": FP32, "robustness": ADVERSARIAL}
    whole, halved = (
        weights(world.train(world.run_file(f"of-{divisor}", divisor=divisor, **more)).artifact)
        for divisor in (1, 8)
    )
    torch.testing.assert_close(halved, whole, atol=1e-5, rtol=0)
    plain = weights(world.train(world.run_file("plain", hyperparameters=FP32)).artifact)
    assert (plain - whole).abs().max() > 1e-3, "the option has an effect"


@pytest.mark.parametrize("method", [{"type": "Full"}, {"type": "LoRA", "lora": {"rank": 4}}])
def test_a_resumed_training_gives_the_same_weights(world, method):
    more = {
        "hyperparameters": {**SGD, "dropout": "0.1"},
        "checkpoint": {"everySteps": 4},
        "robustness": ADVERSARIAL,
        "method": method,
    }
    whole = world.train(world.run_file("whole", **more)).artifact
    (first, *later) = sorted(world.home.checkpoints(1).iterdir())
    assert first.name == "step-000000004"
    for each in later:
        shutil.rmtree(each)
    assert world.train(world.run_file("resumed", **more)).artifact.digest == whole.digest


def test_gradient_checkpointing_gives_the_same_weights(world):
    made = [
        world.train(
            world.run_file(
                f"saving-{saving}",
                hyperparameters={**SGD, "gradientCheckpointing": saving},
                robustness=ADVERSARIAL,
            )
        ).artifact.digest
        for saving in (False, True)
    ]
    assert made[0] == made[1]
