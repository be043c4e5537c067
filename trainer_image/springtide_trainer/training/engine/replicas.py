"""A copy of the model in each process, whose gradients are added up after each step: PyTorch's DDP.

The factors of rows in the loss are those of the whole step (`rows.batches`), so the gradients of
the processes are added and not averaged: a process with fewer rows, or none, counts for less.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import Tensor
    from torch.futures import Future

    from springtide_trainer.tasks.task import Batch

    Objective = Callable[[nn.Module, Batch], Tensor]
    """The loss of a batch: a scalar, the weighted sum over its rows."""
    Passes = Callable[[list[Batch]], Iterable[Batch]]
    """Iterates over the batches of a step; the backward pass of the last one completes it."""


class Replicas:
    """The loss of this process, with gradients that all processes have added up.

    Parameters are looked up in the graph of each pass: a model may have some that no loss depends
    on, which keep no gradient, as with one process. Because of this the buckets of gradients stay
    as they are first made, and a resumed run adds in the same order as one that was not
    interrupted.

    Args:
        model: The model; its parameters become those of the first process.
        objective: The loss of a batch.
    """

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        self._loss = DistributedDataParallel(
            _Loss(model, objective),
            forward_sync_buffers=False,
            find_unused_parameters=True,
            gradient_as_bucket_view=True,
        )
        # A function without annotations: PyTorch does not resolve those that are strings.
        self._loss.register_comm_hook(None, lambda state, bucket: add_up(bucket))

    def objective(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of a batch."""
        loss: Tensor = self._loss(batch)
        return loss

    def passes(self, batches: list[Batch]) -> Iterator[Batch]:
        """Iterate over the passes of a step; the backward pass of the last one adds up."""
        *earlier, last = batches
        with self._loss.no_sync():
            yield from earlier
        yield last


def add_up(bucket: Any) -> Future[Tensor]:
    """Add a `dist.GradBucket` up over the processes."""
    work: Any = dist.all_reduce(bucket.buffer(), async_op=True)
    future: Future[Tensor] = work.get_future().then(lambda done: done.value()[0])
    return future


class _Loss(nn.Module):
    """The loss as a module: all that an objective does with the model is one pass of DDP."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self._objective = objective

    def forward(self, batch: Batch) -> Tensor:
        return self._objective(self.model, batch)
