"""Steps that are recorded on a GPU train as steps that are not. Skipped without a GPU."""

from __future__ import annotations

import pytest
import torch
from trainer.architectures import ARCHITECTURES
from transformers import AutoModelForSequenceClassification

from springtide_trainer.tasks.classification import Classification
from springtide_trainer.tasks.task import Batch
from springtide_trainer.training import loop, optimizer
from springtide_trainer.training.engine.step_graphs import StepGraphs
from springtide_trainer.training.optimizer import WarmupThen
from springtide_trainer.training.precision import Precision
from springtide_trainer.training.rows.batches import Step

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU: PyTorch finds none on this machine"
)

WIDTHS = [16, 24, 16, 24, 16, 32, 24, 16, 32, 24]
"""Of the steps: 3 shapes, one of which comes only twice."""


def steps(widths: list[int]) -> list[Step]:
    rng, made = torch.Generator().manual_seed(1), []
    for number, width in enumerate(widths, start=1):
        lengths = torch.randint(width - 7, width + 1, (8,), generator=rng)
        mask = (torch.arange(width) < lengths[:, None]).long()
        tokens = torch.randint(4, 99, (8, width), generator=rng) * mask
        inputs = {"input_ids": tokens, "attention_mask": mask}
        labels = torch.randint(0, 2, (8,), generator=rng)
        batch = Batch(inputs, labels, torch.full((8,), 1 / 8)).pinned()
        made.append(Step(number, seed=number, batches=[batch]))
    return made


def trained(config, *, recorded: bool) -> tuple[torch.Tensor, list[int]]:
    """Return the weights after all steps, and the numbers of passes of the model in Python."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).cuda()
    passes: list[int] = []
    model.register_forward_hook(lambda *_: passes.append(1))
    built = optimizer.build(
        "AdamW", model, learning_rate=1e-3, weight_decay=0.01, recorded=recorded
    )
    loop.train(
        model,
        steps(WIDTHS),
        Classification(["no", "yes"]).objective,
        built,
        schedule=WarmupThen("Linear", peak=1e-3, total=len(WIDTHS), warmup=0.2),
        precision=Precision("FP32", torch.device("cuda")),
        engine=lambda take: StepGraphs(take, built.zero_grad) if recorded else take,
    )
    weights = torch.cat([each.detach().flatten().cpu() for each in model.parameters()])
    return weights, passes


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_recorded_steps_give_the_weights_of_steps_that_are_not(name):
    """With random numbers, and a learning rate of its own for each step."""
    expected, _ = trained(ARCHITECTURES[name], recorded=False)
    found, _ = trained(ARCHITECTURES[name], recorded=True)
    assert torch.allclose(found, expected, atol=2e-4), (found - expected).abs().max()


def test_a_step_runs_in_python_once_for_its_shape_and_once_to_be_recorded():
    _, passes = trained(ARCHITECTURES["bert"], recorded=True)
    assert len(passes) == 2 * len(set(WIDTHS))


def test_a_step_that_reads_a_number_from_the_gpu_is_taken_as_it_is():
    """It cannot be recorded: all steps are taken, with their gradients."""
    weight = torch.zeros(2, device="cuda", requires_grad=True)
    taken: list[float] = []

    def take(batches: list[Batch]) -> tuple[torch.Tensor, torch.Tensor]:
        loss = (weight * batches[0].weights.cuda()[:2]).sum()
        taken.append(float(loss.detach()))
        loss.backward()
        return loss.detach(), weight.grad.norm()

    def clear() -> None:
        weight.grad = None

    engine = StepGraphs(take, clear)
    for step in steps([16] * 4):
        _, norm = engine(step.batches)
        assert float(norm) > 0
        clear()
    assert len(taken) == 4
