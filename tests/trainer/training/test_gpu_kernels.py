"""GPU kernels are deterministic, for resumed runs and for other architectures."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy
from trainer.architectures import ARCHITECTURES
from transformers import AutoModelForSequenceClassification

from springtide_trainer.errors import Refused
from springtide_trainer.training.precision import Precision, deterministic_attention

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU: PyTorch finds none on this machine"
)

FORMATS = ["FP32", "BF16", "FP16"]


def options(**changes: object) -> dict[str, object]:
    return {"epochs": 2, "batchSize": 16, "learningRate": "1e-3", "dropout": "0.1", **changes}


@pytest.mark.parametrize("number_format", FORMATS)
def test_a_resumed_training_gives_the_weights_of_an_uninterrupted_one(world, number_format):
    hyperparameters = options(precision=number_format, deterministic=True)
    whole = world.run_file("whole", hyperparameters=hyperparameters, checkpoint={"everySteps": 20})
    digest = world.train(whole).artifact.digest
    assert [path.name for path in world.home.checkpoints(1).iterdir()] == ["step-000000020"]
    assert world.train(whole.model_copy(update={"job": "resumed"})).artifact.digest == digest


def weights_after_some_steps(config, number_format: str) -> torch.Tensor:
    """Train from the same seed on rows of 5 to 300 tokens, with padding."""
    device, rng = torch.device("cuda"), torch.Generator().manual_seed(1)
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    precision = Precision(number_format, device)
    with deterministic_attention(device, 300):
        for _ in range(6):
            lengths = torch.randint(5, 301, (16,), generator=rng)
            mask = (torch.arange(300) < lengths[:, None]).long()
            tokens = torch.randint(4, 99, (16, 300), generator=rng) * mask
            labels = torch.randint(0, 2, (16,), generator=rng).to(device)
            inputs = {"input_ids": tokens.to(device), "attention_mask": mask.to(device)}
            torch.manual_seed(2)
            with precision.forward():
                loss = cross_entropy(model(**inputs).logits.float(), labels)
            precision.backward(loss)
            precision.step(optimizer, model.parameters(), 1.0)
            optimizer.zero_grad()
    return torch.cat([weight.detach().flatten().cpu() for weight in model.parameters()])


@pytest.mark.parametrize("number_format", FORMATS)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_architecture_trains_deterministically_or_is_refused(name, number_format):
    try:
        first = weights_after_some_steps(ARCHITECTURES[name], number_format)
    except Refused as refused:
        assert refused.failure.reason == "NotDeterministic"  # noqa: PT017
        pytest.skip(f"refused: {refused.failure.message}")
    assert torch.equal(first, weights_after_some_steps(ARCHITECTURES[name], number_format))
