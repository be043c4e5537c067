"""Gradient caching: a loss over all vectors of a step, in the memory of one forward pass.

The loss of a query depends on the documents of all other passes of its step. So a step first makes
all vectors without gradients, then the gradient of the loss for each vector, and then makes the
vectors of one pass after the other again, each time with the gradient that is known by then (Gao et
al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"). Where a step
has one pass of queries and one of documents the result is the same as without, but for rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from springtide_trainer.tasks import towers
from springtide_trainer.tasks.task import CachedGradient

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from springtide_trainer.tasks.embedding import Embedding
    from springtide_trainer.tasks.task import Batch
    from springtide_trainer.training.precision import Precision


@dataclass(frozen=True)
class CachedGradients:
    """The loss of queries and documents that one model makes the vectors of.

    Attributes:
        model: The model.
        task: The task.
        precision: Runs forward passes.
    """

    model: nn.Module
    task: Embedding
    precision: Precision

    def passes(self, batches: list[Batch]) -> Iterator[Batch]:
        """Iterate over the passes of a step, each with its gradient.

        A pass with gradients has the random numbers (dropout) of the same pass without.

        Args:
            batches: Passes of queries, which have candidates, and of documents.
        """
        device = self.precision.device
        moved = [batch.to(device) for batch in batches]
        chance, vectors = [], []
        for batch in moved:
            chance.append(_state(device))
            with torch.no_grad(), self.precision.forward():
                vectors.append(self._vectors(self.model, batch))
        known = cached(moved, vectors, scale=self.task.options.scale)
        for batch, state, gradient in zip(moved, chance, known, strict=True):
            _restore(device, state)
            yield replace(batch, cached=gradient)

    def objective(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the part that a pass has of the loss of its step, with its gradient."""
        assert batch.cached is not None
        product = (self._vectors(model, batch) * batch.cached.gradient).sum()
        return product + (batch.cached.loss - product).detach()

    def _vectors(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.task.predict(model(**batch.inputs).logits)


def cached(
    batches: Sequence[Batch], vectors: Sequence[Tensor], *, scale: float
) -> list[CachedGradient]:
    """Return loss and gradient of each pass of a step.

    Args:
        batches: Passes of queries, which have candidates, and of documents, whose labels are their
            places among the candidates.
        vectors: float32 [rows, dimensions] of each pass.
        scale: The temperature.
    """
    leaves = [each.detach().requires_grad_() for each in vectors]
    pairs = list(zip(batches, leaves, strict=True))
    documents = [(batch.labels, leaf) for batch, leaf in pairs if batch.candidates is None]
    place = torch.cat([labels for labels, _ in documents])
    candidates = torch.cat([leaf for _, leaf in documents])[torch.argsort(place)]
    losses = [
        (
            towers.in_batch(leaf, replace(batch.candidates, vectors=candidates), scale=scale)
            * batch.weights
        ).sum()
        if batch.candidates is not None
        else torch.zeros((), device=leaf.device)
        for batch, leaf in pairs
    ]
    gradients = torch.autograd.grad(torch.stack(losses).sum(), leaves)
    return [
        CachedGradient(gradient, loss.detach())
        for gradient, loss in zip(gradients, losses, strict=True)
    ]


def _state(device: torch.device) -> tuple[Tensor, Tensor | None]:
    on_gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    return torch.get_rng_state(), on_gpu


def _restore(device: torch.device, state: tuple[Tensor, Tensor | None]) -> None:
    torch.set_rng_state(state[0])
    if state[1] is not None:
        torch.cuda.set_rng_state(state[1], device)
