"""A part of the model in each process, with its gradients and optimizer state: PyTorch's FSDP.

Each process holds some rows of every parameter. The parameters of a layer are gathered before it
computes and dropped after it, in both directions; then its gradients are added up, and each process
keeps those of its rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from springtide_trainer.errors import Refused
from springtide_trainer.methods.layers import all_layers
from springtide_trainer.training.engine.state_files import PartFiles
from springtide_trainer.training.optimizer import trainable_parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn
    from torch.distributed.fsdp import FSDPModule
    from transformers import PreTrainedModel

    from springtide_trainer.processes import Processes
    from springtide_trainer.tasks.task import Batch
    from springtide_trainer.training.engine.replicas import Objective, Passes
    from springtide_trainer.training.engine.state_files import StateFiles

_FIELD = "spec.training.parallelism.type"


class Shards:
    """Each process holds a part of each parameter; no one holds the whole model or its state.

    The factors of rows in the loss are those of the whole step (`rows.batches`), so gradients are
    added and not averaged. They are after each pass, because a process that kept those of several
    passes would hold the gradients of the whole model.

    Args:
        processes: This process among all.
        device: Its device.
    """

    fused = False

    def __init__(self, processes: Processes, device: torch.device) -> None:
        self._leads = processes.leads
        self._mesh = init_device_mesh(device.type, (processes.count,))
        self.files: StateFiles = PartFiles(self._mesh, processes.patient)

    def place(self, model: PreTrainedModel) -> PreTrainedModel:
        """Divide the parameters, in place: layer by layer, so that a GPU never holds all layers.

        Raises:
            Refused: a parameter is a number, which has no rows.
            RuntimeError: a parameter is not divided.
        """
        for name, parameter in model.named_parameters():
            if parameter.ndim == 0:
                raise Refused(
                    "UnsupportedModel",
                    f"{name} is a single number, which FSDP cannot divide; set "
                    "training.parallelism.type to DDP",
                    _FIELD,
                )
        for part in (*all_layers(model), model.get_input_embeddings(), model):
            # The model itself, too: after a validation it would keep its own parameters whole, and
            # go on with these when an average or the best weights took the place of its parts.
            add_up(fully_shard(part, mesh=self._mesh, reshard_after_forward=True))
        whole = [n for n, each in model.named_parameters() if not isinstance(each, DTensor)]
        if whole:
            raise RuntimeError(f"{len(whole)} parameters are not divided, such as {whole[0]}")
        return model

    def learn(self, model: PreTrainedModel, objective: Objective) -> tuple[Objective, Passes]:
        """Return the objective; gradients are added up by the backward pass of each layer."""

        def divided(model: nn.Module, batch: Batch) -> Tensor:
            # A cache would keep a BF16 copy of all layers until the end of the pass.
            before = torch.is_autocast_cache_enabled()
            torch.set_autocast_cache_enabled(False)
            try:
                return objective(model, batch)
            finally:
                torch.set_autocast_cache_enabled(before)

        return divided, iter

    def collect(
        self, model: PreTrainedModel, load: Callable[[], PreTrainedModel]
    ) -> PreTrainedModel:
        """Gather the trained parameters, one by one; the first process keeps them on the CPU."""
        made = load() if self._leads else model
        with torch.no_grad():
            for name, parameter in trainable_parameters(model).items():
                assert isinstance(parameter, DTensor)
                gathered = parameter.full_tensor()
                if self._leads:
                    made.get_parameter(name).copy_(gathered)
        return made


def add_up(part: FSDPModule) -> None:
    """Let the gradients of a part of the model be added up; else they are averaged."""
    part.set_gradient_divide_factor(1.0)
    part.set_force_sum_reduction_for_comms(enable=True)
