"""What processes do together in the tests: functions that a process finds by the module's name."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Shard, distribute_tensor
from trainer.architectures import ARCHITECTURES
from transformers import AutoModelForSequenceClassification

from springtide_trainer.tasks.task import Batch
from springtide_trainer.training.engine.shards import Shards
from springtide_trainer.training.engine.state_files import PartFiles
from springtide_trainer.training.optimizer import clip

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from springtide_trainer.processes import Processes

CPU = torch.device("cpu")


def tensors() -> dict[str, Tensor]:
    """Tensors of even, uneven and few rows, with values of every kind, and a number."""
    odd = torch.tensor([0.1, -0.0, 1e-42, float("inf"), float("nan")])
    return {
        "weights/even": torch.arange(24.0).view(8, 3),
        "weights/uneven": torch.arange(35).view(7, 5),
        "weights/few": torch.arange(2.0).view(2, 1) / 3,
        "optimizer/0/odd": odd,
        "optimizer/0/step": torch.tensor(7.0),
    }


def whole(tensor: Tensor) -> Tensor:
    """Gather the parts of all processes."""
    own = tensor.detach()
    return own.full_tensor() if isinstance(own, DTensor) else own


def write_parts(processes: Processes, folder: Path) -> None:
    """Write the tensors, of which each process has a part."""
    mesh = init_device_mesh("cpu", (processes.count,))
    parts = {
        name: distribute_tensor(each, mesh, [Shard(0)]) if each.ndim else each
        for name, each in tensors().items()
    }
    PartFiles(mesh).write(parts, folder)


def read_parts(processes: Processes, folder: Path) -> None:
    """Check that the parts of this process are read, whichever processes wrote them."""
    mesh = init_device_mesh("cpu", (processes.count,))
    found = PartFiles(mesh).read(folder)
    assert found.keys() == tensors().keys()
    for name, expected in tensors().items():
        assert isinstance(found[name], DTensor) == bool(expected.ndim), name
        assert whole(found[name]).numpy().tobytes() == expected.numpy().tobytes(), name


def compare_architectures(processes: Processes) -> None:
    """Check that gradients, clipped and not, are those of the whole model."""
    for name in ARCHITECTURES:
        alone, rows = small_model(name), batch()
        torch.autograd.backward(loss(alone, rows))
        expected = {n: each.grad for n, each in alone.named_parameters() if each.grad is not None}

        shards = Shards(processes, CPU)
        model = shards.place(small_model(name))
        objective, _ = shards.learn(model, loss)
        own = torch.arange(processes.rank, len(rows.labels), processes.count)
        torch.autograd.backward(objective(model, chosen(rows, own)))
        held = {n: each for n, each in model.named_parameters() if each.grad is not None}
        assert all(isinstance(each.grad, DTensor) for each in held.values()), name
        assert held.keys() == expected.keys(), name
        found = {n: whole(each.grad) for n, each in held.items() if each.grad is not None}
        compare(found, expected, f"gradients of {name}")

        norms = [clip(each.parameters(), 1e-3) for each in (alone, model)]
        torch.testing.assert_close(norms[1], norms[0], rtol=1e-5, atol=0)
        clipped = {n: whole(each.grad) for n, each in held.items() if each.grad is not None}
        compare(clipped, expected, f"clipped gradients of {name}")

        made = shards.collect(model, lambda name=name: small_model(name))
        if processes.leads:
            weights = dict(made.named_parameters())
            compare(weights, dict(alone.named_parameters()), f"weights of {name}")


def compare(found: dict[str, Tensor], expected: dict[str, Tensor], what: str) -> None:
    apart = torch.stack([(found[name] - expected[name]).double().norm() for name in expected])
    of = torch.stack([each.double().norm() for each in expected.values()])
    assert apart.norm() <= 1e-5 * of.norm(), f"{what} are {apart.norm() / of.norm():.1e} apart"


def small_model(name: str) -> PreTrainedModel:
    torch.manual_seed(3)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(ARCHITECTURES[name])
    return model.eval()


def batch() -> Batch:
    """Five rows of other lengths, whose weights are those of one step."""
    torch.manual_seed(5)
    ids, mask = torch.randint(3, 99, (5, 12)), torch.ones(5, 12, dtype=torch.int64)
    for row in range(5):
        mask[row, 12 - row :] = 0
        ids[row, 12 - row :] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    return Batch(inputs, torch.tensor([0, 1, 1, 0, 1]), torch.tensor([0.1, 0.2, 0.3, 0.2, 0.2]))


def chosen(rows: Batch, own: Tensor) -> Batch:
    inputs = {name: each[own] for name, each in rows.inputs.items()}
    return Batch(inputs, rows.labels[own], rows.weights[own])


def loss(model: nn.Module, rows: Batch) -> Tensor:
    logits = model(**rows.inputs).logits
    each = torch.nn.functional.cross_entropy(logits, rows.labels, reduction="none")
    return (each * rows.weights).sum()


def hang_in_the_first(processes: Processes) -> None:
    """Let the others wait for one that does not come."""
    if processes.leads:
        time.sleep(600)
    processes.wait()
