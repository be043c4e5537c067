"""The processes of one training: one, or one for each GPU of its pods.

What they agree on goes through the memory of the CPU (gloo), so that no GPU is waited for. With one
process nothing is sent.
"""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from springtide_api.contract import ExitCode
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray
    from torch import Tensor

log = logging.getLogger(__name__)

LONGEST_WAIT = timedelta(days=7)
"""For what one process does while the others wait, such as to tokenize all rows or to commit a
checkpoint. It is no limit: one that ended is noticed at once, and training.limits.activeDeadline
ends one that hangs, as where it trains alone."""
STEP_WAIT = timedelta(minutes=30)
"""For what all processes do at once: to add gradients up, to gather parameters, to agree after a
step. Who waits for longer ends the attempt, because another process hangs."""

_IN_VAIN = (
    "Timed out waiting",
    "Application timeout caused pair closure",  # another sum of this process waited
    "Timed out after",
    "wait timeout after",
)
"""Parts of the messages of gloo, and of the store at which processes meet."""


@dataclass(frozen=True)
class Processes:
    """The number of this process, from 0, how many there are, and in how many pods.

    Each method but `share` is called by all of them, in the same order.

    Attributes:
        rank: The number of this process.
        count: How many there are.
        pods: In how many pods.
        patient: The group of connections that wait for what one process does alone; None: those of
            a step do.
    """

    rank: int = 0
    count: int = 1
    pods: int = 1
    patient: Any = None

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
        dist.all_reduce(torch.from_numpy(rows.view(np.int32)), group=self.patient)

    def wait(self) -> None:
        """Wait until all processes are here, however long one of them works alone."""
        if self.count > 1:
            import torch
            import torch.distributed as dist

            dist.all_reduce(torch.zeros(1), group=self.patient)

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
    settings: dict[str, Any] = {"timeout": STEP_WAIT}
    dist.init_process_group(backend, **settings)
    patient = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)
    count = dist.get_world_size()
    pods = count // int(os.environ["LOCAL_WORLD_SIZE"])
    return Processes(dist.get_rank(), count, pods, patient)


@contextmanager
def naming_a_hang() -> Iterator[None]:
    """Say that another process hangs, where this one waited for it in vain in this block.

    On a GPU NCCL ends the process itself, by SIGABRT.

    Raises:
        Refused: this process waited for `STEP_WAIT`.
    """
    try:
        yield
    except RuntimeError as error:
        if not any(each in str(error) for each in _IN_VAIN):
            raise
        log.exception("another process hangs")
        raise Refused(
            "ProcessHangs",
            f"process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} waited "
            f"{STEP_WAIT.total_seconds() / 60:g} minutes for another one, which hangs; see the "
            "logs of all pods of the training",
            code=ExitCode.ENVIRONMENT,
        ) from error
