"""Takes steps on a GPU as CUDA graphs, where it would wait for the program.

A step of a small model is hundreds of short kernels, which the GPU runs in less time than the
program takes to start them. So the kernels of a step are recorded, and started together for each
later step whose batches have the same shapes. The kernels are the same, and so are the weights.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from springtide_trainer.tasks.task import Batch

    Taken = tuple[Tensor, Tensor]
    """Loss of a step, and norm of its gradients: scalars on the device."""
    Take = Callable[[list[Batch]], Taken]
    """Takes a step: forward and backward passes of its batches, and the update of the weights."""

log = logging.getLogger(__name__)

MOST = 64
"""Recorded steps. Each holds memory of the GPU for its kernels."""


@dataclass(frozen=True)
class _Recorded:
    """A recorded step. Before it is replayed, its batches are overwritten."""

    graph: torch.cuda.CUDAGraph
    batches: list[Batch]
    taken: Taken


class StepGraphs:
    """Takes a step as a graph if steps of its shapes came before; the first one is taken as it is.

    Where a step cannot be recorded, because its code reads a number from the GPU or because there
    is not enough memory, this step and all later ones are taken as they are.

    Args:
        take: Takes a step. What it does besides work of the GPU is done only when it is recorded.
        clear: Drops the gradients.
    """

    def __init__(self, take: Take, clear: Callable[[], None]) -> None:
        self._take, self._clear = take, clear
        self._seen: set[Any] = set()
        self._recorded: dict[Any, _Recorded] = {}
        self._pool: Any = None
        self._able = True

    def __call__(self, batches: list[Batch]) -> Taken:
        """Take a step."""
        shapes = tuple(_shapes(batch) for batch in batches)
        known = self._recorded.get(shapes)
        if known is None and shapes in self._seen and self._able:
            known = self._record(batches)
            if known is not None:
                self._recorded[shapes] = known
                self._able = len(self._recorded) < MOST
        self._seen.add(shapes)
        if known is None:
            return self._take(batches)
        for own, given in zip(known.batches, batches, strict=True):
            for target, source in zip(_tensors(own), _tensors(given), strict=True):
                target.copy_(source, non_blocking=True)
        known.graph.replay()
        return known.taken

    def _record(self, batches: list[Batch]) -> _Recorded | None:
        """Record a step without taking it; None, with a line in the log, if it cannot be."""
        device = torch.device("cuda", torch.cuda.current_device())
        try:
            _check_memory(device)
            own = [batch.to(device) for batch in batches]
            graph = torch.cuda.CUDAGraph()
            # Another thread makes batches meanwhile: what it asks of the GPU is not recorded.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                taken = self._take(own)
        except (RuntimeError, MemoryError) as unable:
            self._able = False
            log.info("steps are not recorded", extra={"error": str(unable).partition("\n")[0]})
            return None
        finally:
            self._clear()
        self._pool = self._pool or graph.pool()
        return _Recorded(graph, own, taken)


def _check_memory(device: torch.device) -> None:
    """Check that there is room for a second step: recorded steps have memory of their own.

    Raises:
        MemoryError: there is not.
    """
    held = torch.cuda.memory_allocated(device)
    needed = torch.cuda.max_memory_allocated(device) - held
    free, _ = torch.cuda.mem_get_info(device)
    room = free + torch.cuda.memory_reserved(device) - held
    if room < 2 * needed:
        raise MemoryError(f"a step needs {needed:,} bytes, and {room:,} are free: less than twice")


def _tensors(batch: Batch) -> list[Tensor]:
    taught = [] if batch.taught is None else [batch.taught]
    return [*batch.inputs.values(), batch.labels, batch.weights, *taught]


def _shapes(batch: Batch) -> Any:
    """Return what two batches must have alike for one to take the place of the other."""
    tensors = [(tensor.shape, tensor.dtype) for tensor in _tensors(batch)]
    return (*batch.inputs, *tensors, batch.groups)
