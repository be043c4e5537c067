"""Gradient caching, compared with one backward pass over all vectors of a step."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from springtide_api.update.task import EmbeddingOptions
from springtide_trainer.tasks.embedding import Embedding
from springtide_trainer.tasks.task import Batch, Candidates
from springtide_trainer.tasks.towers import in_batch
from springtide_trainer.training import loop
from springtide_trainer.training.engine.cached_gradients import CachedGradients
from springtide_trainer.training.precision import resolve
from springtide_trainer.training.rows.batches import Step

CPU = torch.device("cpu")
OWN = torch.tensor([0, 3, 2, 0, 1])
"""The document of each of 5 queries."""


class Encoder(nn.Module):
    """A layer with dropout, in place of a model of transformers."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.layer, self.dropout = nn.Linear(6, 8), nn.Dropout(dropout)

    def forward(self, rows: torch.Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.dropout(self.layer(rows)).tanh())


def drawn(rows: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, 6, generator=torch.Generator().manual_seed(seed))


QUERIES, DOCUMENTS = drawn(5, 1), drawn(4, 2)
WEIGHTS = torch.tensor([0.2, 0.1, 0.3, 0.2, 0.2])
EXCLUDED = torch.zeros(5, 4, dtype=torch.bool)
EXCLUDED[1, 0] = True
LOG_Q = torch.tensor([-0.1, -0.5, -1.0, -2.0])


def step(size: int) -> list[Batch]:
    """Cut a step into passes of so many rows; documents come in another order than their places."""
    order = torch.tensor([2, 0, 3, 1])
    queries = [
        Batch(
            {"rows": QUERIES[at : at + size]},
            OWN[at : at + size],
            WEIGHTS[at : at + size],
            candidates=Candidates(
                torch.empty(4, 0), LOG_Q, OWN[at : at + size], EXCLUDED[at : at + size]
            ),
        )
        for at in range(0, 5, size)
    ]
    documents = [
        Batch({"rows": DOCUMENTS[own]}, own, torch.zeros(len(own))) for own in order.split(size)
    ]
    return queries + documents


def whole(model: Encoder, task: Embedding) -> torch.Tensor:
    """The loss of the step in one pass."""
    queries, documents = (task.predict(model(each).logits) for each in (QUERIES, DOCUMENTS))
    known = Candidates(documents, LOG_Q, OWN, EXCLUDED)
    return (in_batch(queries, known, scale=task.options.scale) * WEIGHTS).sum()


@pytest.mark.parametrize("size", [1, 2, 5])
def test_a_step_in_passes_has_loss_and_gradients_of_the_whole_step(size):
    model, task = Encoder(0.0), Embedding(EmbeddingOptions(train_tower="Both"))
    expected = whole(model, task)
    gradients = torch.autograd.grad(expected, list(model.parameters()))
    both = CachedGradients(model, task, resolve("FP32", CPU))
    total = torch.zeros(())
    for batch in both.passes(step(size)):
        loss = both.objective(model, batch)
        loss.backward()
        total += loss.detach()
    assert float(total) == pytest.approx(float(expected.detach()), rel=1e-5)
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)


def test_both_passes_of_a_batch_have_the_same_dropout():
    """Else the gradient would be that of other vectors than those of the loss."""
    model, task = Encoder(0.5), Embedding(EmbeddingOptions(train_tower="Both"))
    both = CachedGradients(model, task, resolve("FP32", CPU))
    torch.manual_seed(9)
    seen: list[torch.Tensor] = []
    model.register_forward_hook(lambda _, given, made: seen.append(made.logits.detach()))
    for batch in both.passes(step(2)):
        both.objective(model, batch)
    first, second = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert len(first) == 5
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(first[0], first[1])


def test_the_training_loop_takes_the_same_step_however_it_is_cut():
    made = []
    for size in (2, 5):
        model, task = Encoder(0.0), Embedding(EmbeddingOptions(train_tower="Both"))
        precision = resolve("FP32", CPU)
        both = CachedGradients(model, task, precision)
        loop.train(
            model,
            [Step(1, 3, step(size)), Step(2, 4, step(size))],
            both.objective,
            torch.optim.SGD(model.parameters(), lr=0.1),
            schedule=lambda _: 0.1,
            precision=precision,
            passes=both.passes,
        )
        made.append(model.layer.weight.detach())
    assert torch.allclose(*made, atol=1e-6)
    assert not torch.allclose(made[0], Encoder(0.0).layer.weight, atol=1e-3)
