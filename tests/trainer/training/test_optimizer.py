"""Steps are those of the options: the update of the optimizer, its rate, and clipped gradients."""

from __future__ import annotations

import pytest
import torch
from trainer.training.test_options import weights

from springtide_trainer.training import loop, optimizer

STEP = {
    "maxSteps": 1,
    "batchSize": 16,
    "optimizer": "SGD",
    "learningRate": "0.5",
    "schedule": "Constant",
    "warmup": "0",
    "weightDecay": "0",
    "precision": "FP32",
}
RATE = 0.125


def moved(world, **hyperparameters) -> float:
    """Train, and return by how much the weights changed: the length of the difference."""
    run = world.run_file(hyperparameters=STEP | hyperparameters)
    before, after = weights(world.parent), weights(world.train(run).artifact)
    return sum((after[name] - before[name]).square().sum().item() for name in before) ** 0.5


def test_a_gradient_is_clipped_to_the_norm_of_the_recipe(world):
    norm = moved(world, maxGradNorm="1e6") / 0.5
    assert norm > 0.005
    for limit, expected in ((norm / 2, norm / 2), (norm / 8, norm / 8), (2 * norm, norm)):
        found = moved(world, maxGradNorm=f"{limit:.6f}")
        assert found == pytest.approx(0.5 * expected, rel=0.01)


@pytest.mark.parametrize(
    ("name", "expected", "state"),
    [
        # Adam (arXiv:1412.6980): of a constant gradient, a step is its sign.
        ("AdamW", lambda gradient: 2 * gradient.sign(), {(2, 3)}),
        # Momentum 0.9: the second step is 1.9 times the first.
        ("SGD", lambda gradient: 2.9 * gradient, {(2, 3)}),
        # Adafactor (arXiv:1804.04235): as Adam, by one number for each row and each column.
        ("Adafactor", lambda gradient: 2 * gradient.sign(), {(2,), (3,)}),
    ],
)
def test_two_steps_of_an_optimizer_are_those_of_its_source(name, expected, state):
    model = torch.nn.Linear(3, 2, bias=False)
    before = model.weight.detach().clone()
    gradient = torch.outer(torch.tensor([1.0, -0.25]), torch.tensor([0.5, 2.0, -1.0]))
    made = optimizer.build(name, model, learning_rate=RATE, weight_decay=0.0)
    for _ in range(2):
        model.weight.grad = gradient.clone()
        made.step()
    step = (before - model.weight.detach()) / RATE
    torch.testing.assert_close(step, expected(gradient), rtol=1e-4, atol=1e-4)
    held = made.state[model.weight].values()
    assert {tuple(one.shape) for one in held if torch.is_tensor(one) and one.ndim} == state


@pytest.mark.parametrize(
    ("schedule", "decay"),
    [
        ("Linear", [1, 2 / 3, 1 / 3]),
        ("Cosine", [1, 0.75, 0.25]),
        ("Constant", [1, 1, 1]),
    ],
)
def test_the_rates_of_a_training_are_those_of_its_schedule_and_warmup(
    world, monkeypatch, schedule, decay
):
    rates = []
    set_learning_rate = loop.set_learning_rate

    def recorded(of: torch.optim.Optimizer, rate: float) -> None:
        rates.append(rate)
        set_learning_rate(of, rate)

    monkeypatch.setattr(loop, "set_learning_rate", recorded)
    moved(world, maxSteps=4, learningRate="0.01", warmup="0.25", schedule=schedule)
    assert rates == pytest.approx([0.005, *(0.01 * share for share in decay)])
