"""The processes of one training: one, or one for each GPU of its pods.

What they agree on goes through the memory of the CPU (gloo), so that no GPU is waited for. With one
process nothing is sent.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

LONGEST_WAIT = timedelta(days=7)
"""Of one process for another, such as for the first one to tokenize all rows. It is no limit: one
that ended is noticed at once, and one that hangs is ended by training.limits.activeDeadline."""


@dataclass(frozen=True)
class Processes:
    """The number of this process, from 0, how many there are, and in how many pods.

    Each method but `share` is called by all of them, in the same order.
    """

    rank: int = 0
    count: int = 1
    pods: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the first process, the only one that writes files others see."""
        return self.rank == 0

    def share(self, items: NDArray[np.int64], rank: int | None = None) -> NDArray[np.int64]:
        """Return the items of this process, or of another one: each has at most one more."""
        return items[self.rank if rank is None else rank :: self.count]

    def any(self, found: bool) -> bool:
        """Return whether one of them found something."""
        return self.from_sum(float(found)) > 0

    def from_first(self, value: float) -> float:
        """Return the value of the first process."""
        return self.from_sum(value if self.leads else 0.0)

    def from_sum(self, value: float) -> float:
        """Return the sum of the values of all processes."""
        if self.count == 1:
            return value
        import torch

        return float(self.sum(torch.tensor([value], dtype=torch.float64)))

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes.

        Args:
            values: On the CPU.
        """
        if self.count == 1:
            return values
        import torch.distributed as dist

        total = values.detach().clone().contiguous()
        dist.all_reduce(total)
        return total

    def merge(self, rows: NDArray[np.float32]) -> None:
        """Complete an array of which each process has filled other rows and left the rest 0."""
        if self.count == 1:
            return
        import torch
        import torch.distributed as dist

        # As integers: the bits stay those of the process that filled a row.
        dist.all_reduce(torch.from_numpy(rows.view(np.int32)))

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.from_sum(0.0)

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Run this block in the first process, and then in all others: they find what it left.

        On several nodes the first process of each other pod comes in between: what is left on the
        disk of a pod is not on that of another.
        """
        turns = 2 if self.pods == 1 else 3
        begins_pod = self.rank % (self.count // self.pods) == 0
        turn = 0 if self.leads else 1 if begins_pod or self.pods == 1 else 2
        for _ in range(turn):
            self.wait()
        yield
        for _ in range(turn, turns - 1):
            self.wait()

    def leave(self) -> None:
        """End the connection: what follows is done by each process on its own."""
        if self.count > 1:
            import torch.distributed as dist

            dist.destroy_process_group()


ALONE = Processes()
"""A training of one process."""


def join() -> Processes:
    """Connect with the other processes that torch's launcher started, by its variables.

    Gradients go from GPU to GPU (NCCL) where there are GPUs.
    """
    import torch
    import torch.distributed as dist

    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    settings: dict[str, Any] = {"timeout": LONGEST_WAIT}
    dist.init_process_group(backend, **settings)
    count = dist.get_world_size()
    return Processes(dist.get_rank(), count, count // int(os.environ["LOCAL_WORLD_SIZE"]))
