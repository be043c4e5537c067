"""Bottleneck adapters in the layers of the encoder: trained with the head, beside fixed weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from springtide_api.update.method import Adapter as Options
from springtide_trainer.artifact import saving
from springtide_trainer.errors import Refused
from springtide_trainer.methods.held_parts import check_parts
from springtide_trainer.methods.layers import all_layers, lower_layers
from springtide_trainer.methods.targets import choose_targets
from springtide_trainer.tasks.bottleneck import attach, bottlenecks

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedModel

    from springtide_api.update.training import Training
    from springtide_trainer.methods.adapter import Continued

_FIELD = "spec.training.method.adapter"


class Adapter:
    """Trains bottlenecks and the head; the artifact is the model with them (`tasks.bottleneck`)."""

    def prepare(
        self,
        model: PreTrainedModel,
        training: Training,
        *,
        seed: int,
        continued: Continued | None = None,
    ) -> PreTrainedModel:
        """Freeze the base model; its targets get a bottleneck, or keep the one of the parent.

        By default a layer has one, behind its last linear layer: that of the feed-forward network
        (Pfeiffer et al. 2021, "AdapterFusion", arXiv:2005.00247). Layers of `freeze` get none.

        Raises:
            Refused: a target module is none of the base model, or has a bottleneck of another
                width, or the model has parts of another method.
        """
        options = training.method.adapter or Options()
        check_parts(model, "Adapter")
        frozen = lower_layers(model, training.hyperparameters.freeze.lower_layers)
        targets = (
            choose_targets(model, options.target_modules, frozen, field=_FIELD)
            if options.target_modules
            else _last_of_layers(model, frozen)
        )
        held = bottlenecks(model.base_model)
        _check_widths({path: each.width for path, each in held.items()}, targets, options.width)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for path, module in targets.items():
                if path not in held:
                    attach(module, options.width)
        model.base_model.requires_grad_(requires_grad=False)
        for path, each in bottlenecks(model.base_model).items():
            each.requires_grad_(requires_grad=path in targets)
        return model

    def each_step(self, model: PreTrainedModel, training: Training, *, total: int) -> None:
        """Nothing: bottlenecks are trained as they are."""

    def merge(self, model: PreTrainedModel) -> None:
        """Nothing: bottlenecks cannot be merged."""

    def export(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the model and its bottlenecks."""
        saving.save_model(model, folder)


def _last_of_layers(model: PreTrainedModel, frozen: Sequence[nn.Module]) -> dict[str, nn.Module]:
    """Return the last linear layer of each layer whose outputs have the width of the model.

    Raises:
        Refused: there is none, or only in frozen layers.
    """
    size = model.config.hidden_size
    paths = {id(module): path for path, module in model.base_model.named_modules()}
    excluded = {id(layer) for layer in frozen}
    made: dict[str, nn.Module] = {}
    for layer in all_layers(model):
        inside = {id(part) for each in bottlenecks(layer).values() for part in each.modules()}
        found = [
            module
            for module in layer.modules()
            if id(module) not in inside and _outputs(module) == size
        ]
        if found and id(layer) not in excluded:
            made[paths[id(found[-1])]] = found[-1]
    if not made:
        raise Refused(
            "NoTargetModule",
            "no layer that is trained ends with a linear layer of the width of the model; lower "
            "freeze.lowerLayers, or name linear layers in targetModules",
            f"{_FIELD}.targetModules",
        )
    return made


def _outputs(module: nn.Module) -> int | None:
    if isinstance(module, nn.Linear):
        return module.out_features
    return int(module.nf) if isinstance(module, Conv1D) else None


def _check_widths(held: dict[str, int], targets: dict[str, nn.Module], width: int) -> None:
    """Refuse another width than the parent's: its bottlenecks can be neither merged nor cut."""
    if other := sorted({held[path] for path in targets if held.get(path, width) != width}):
        raise Refused(
            "AdapterMismatch",
            f"width is {width}, and the adapters of the live model, which are a part of it, have "
            f"{', '.join(map(str, other))}; set width back, or create an update with another "
            "initial model",
            f"{_FIELD}.width",
        )
