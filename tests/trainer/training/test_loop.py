"""The training loop calls its observers while the gradients of the step are there."""

from __future__ import annotations

import torch
from torch import nn

from springtide_trainer.tasks.task import Batch
from springtide_trainer.training.loop import train
from springtide_trainer.training.precision import Precision
from springtide_trainer.training.rows.batches import Step


def gradient_of(factor: float) -> Step:
    """A step whose loss is the weight times a factor."""
    ones = torch.ones(1)
    return Step(int(factor), 0, [Batch({"x": ones * factor}, ones, ones)])


def test_observers_see_the_gradients_of_their_step_and_no_others():
    model = nn.Linear(1, 1, bias=False)
    seen: list[tuple[int, float]] = []

    def observe(step: int, loss: float) -> None:
        gradient = model.weight.grad
        assert gradient is not None
        seen.append((step, gradient.item()))

    train(
        model,
        [gradient_of(factor) for factor in (1, 2, 3)],
        lambda model, batch: model(batch.inputs["x"]).sum(),
        torch.optim.SGD(model.parameters(), lr=0.1),
        schedule=lambda step: 0.1,
        precision=Precision("FP32", torch.device("cpu")),
        max_grad_norm=100.0,
        observers=[observe],
    )

    assert seen == [(1, 1.0), (2, 2.0), (3, 3.0)]
    assert model.weight.grad is None


def test_each_step_has_the_random_numbers_of_its_seed():
    """Those of `torch.manual_seed`, whatever was drawn before."""
    model, drawn = nn.Linear(1, 1), []

    def noisy(model: nn.Module, batch: Batch) -> torch.Tensor:
        drawn.append(torch.rand(3))
        return (model(batch.inputs["x"]) * drawn[-1].sum()).sum()

    batch = Batch({"x": torch.ones(1, 1)}, torch.zeros(1), torch.ones(1))
    train(
        model,
        [Step(number, seed, [batch]) for number, seed in ((1, 2**62), (2, 7), (3, 2**62))],
        noisy,
        torch.optim.SGD(model.parameters(), lr=0.1),
        schedule=lambda step: 0.1,
        precision=Precision("FP32", torch.device("cpu")),
    )
    for seed, found in zip((2**62, 7, 2**62), drawn, strict=True):
        torch.manual_seed(seed)
        assert torch.equal(found, torch.rand(3))
