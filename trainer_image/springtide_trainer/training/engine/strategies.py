"""How the processes of a training divide the work: what differs between them is here.

Whatever the strategy, a process learns its share of the rows of each step, and the gradients of all
are added up. A new strategy is a class, and a line in `STRATEGIES`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from springtide_trainer.artifact.models import move
from springtide_trainer.training.engine.replicas import Replicas
from springtide_trainer.training.engine.state_files import OneFile

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from transformers import PreTrainedModel

    from springtide_trainer.processes import Processes
    from springtide_trainer.training.engine.replicas import Objective, Passes
    from springtide_trainer.training.engine.state_files import StateFiles


class Strategy(Protocol):
    """Where the model of a training is, and how its processes add their gradients up.

    Each method is called by all of them, in the same order.
    """

    fused: bool
    """Whether the fused kernels of all optimizers take the parameters."""
    files: StateFiles
    """How the tensors of a checkpoint are written."""

    def place(self, model: PreTrainedModel) -> PreTrainedModel:
        """Put a model on the devices, in place.

        Args:
            model: On the CPU, the same in each process.

        Raises:
            Refused: the model cannot be divided.
        """

    def learn(self, model: PreTrainedModel, objective: Objective) -> tuple[Objective, Passes]:
        """Return the objective and the passes whose gradients are those of all processes.

        Args:
            model: As `place` returned it.
            objective: The loss of a batch.
        """

    def collect(
        self, model: PreTrainedModel, load: Callable[[], PreTrainedModel]
    ) -> PreTrainedModel:
        """Return the trained model, whole and on the CPU; it means something in the first process.

        Args:
            model: As `place` returned it; not used afterwards.
            load: Loads the model again as it was before `place`.
        """


class Whole:
    """The model is whole in each process: one trains alone, several are replicas.

    Args:
        processes: This process among all.
        device: Its device.
    """

    fused = True

    def __init__(self, processes: Processes, device: torch.device) -> None:
        self._several, self._device = processes.count > 1, device
        self.files: StateFiles = OneFile(leads=processes.leads)

    def place(self, model: PreTrainedModel) -> PreTrainedModel:
        """Move the model to the device."""
        return move(model, self._device)

    def learn(self, model: PreTrainedModel, objective: Objective) -> tuple[Objective, Passes]:
        """Return both as they are, or those of replicas."""
        if not self._several:
            return objective, iter
        replicas = Replicas(model, objective)
        return replicas.objective, replicas.passes

    def collect(
        self, model: PreTrainedModel, load: Callable[[], PreTrainedModel]
    ) -> PreTrainedModel:
        """Move the model to the CPU."""
        return move(model, "cpu")


def _sharded(processes: Processes, device: torch.device) -> Strategy:
    # Imported here, because it takes more than a second that other trainings do without.
    from springtide_trainer.training.engine.shards import Shards

    return Shards(processes, device)


STRATEGIES: dict[str, Callable[[Processes, torch.device], Strategy]] = {
    "DDP": Whole,
    "FSDP": _sharded,
}
"""By `training.parallelism.type`, for several processes."""


def strategy_of(name: str, processes: Processes, device: torch.device) -> Strategy:
    """Return the strategy of a training; with one process there is nothing to divide.

    Args:
        name: A type of parallelism.
        processes: This process among all.
        device: Its device.
    """
    if processes.count == 1:
        return Whole(processes, device)
    return STRATEGIES[name](processes, device)
