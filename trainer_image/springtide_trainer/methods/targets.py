"""Finds the linear layers of the encoder that get adapters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from transformers import PreTrainedModel

_SHOWN = 12
"""Names that a message lists."""


def choose_targets(
    model: PreTrainedModel, names: Sequence[str], frozen: Sequence[nn.Module], *, field: str
) -> dict[str, nn.Module]:
    """Return the layers that get adapters, by their path in the base model.

    Args:
        model: A model with its head.
        names: Last parts of the paths of the target modules; empty for all linear layers.
        frozen: Layers whose modules get no adapters.
        field: The block of the method in the spec, for messages.

    Raises:
        Refused: a name matches no linear layer of the base model, or only frozen ones.
    """
    excluded = {id(module) for layer in frozen for module in layer.modules()}
    linear: dict[str, nn.Module] = {
        path: module
        for path, module in model.base_model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    }
    if unknown := [name for name in names if not any(_matches(path, name) for path in linear)]:
        raise _unknown_targets(model, unknown, linear, field)
    chosen = {
        path: module
        for path, module in linear.items()
        if id(module) not in excluded and (not names or any(_matches(path, name) for name in names))
    }
    if not chosen:
        raise Refused(
            "NoTargetModule",
            f"all target modules are in the {len(frozen)} layers of freeze.lowerLayers, which get "
            "no adapters; lower it, or name other modules",
            f"{field}.targetModules",
        )
    return chosen


def check_rank(targets: Mapping[str, nn.Module], rank: int, field: str) -> None:
    """Check that a rank is at most the smaller side of the weights of each target.

    Args:
        targets: Linear layers by their path in the base model.
        rank: Rank of the adapters.
        field: Its field in the spec.

    Raises:
        Refused: it is larger.
    """
    path, layer = min(targets.items(), key=lambda target: min(_weight(target[1]).shape))
    rows, columns = _weight(layer).shape
    name = field.rpartition(".")[2]
    if rank > (limit := min(rows, columns)):
        raise Refused(
            "RankTooLarge",
            f"{name} is {rank}, the weights of {path} are {rows} x {columns}, and a rank above "
            f"{limit} has no effect; lower it to at most {limit}, or name other target modules",
            field,
        )


def _matches(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _weight(layer: nn.Module) -> torch.Tensor:
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return weight


def _unknown_targets(
    model: PreTrainedModel, unknown: Sequence[str], linear: Mapping[str, nn.Module], field: str
) -> Refused:
    """Name the linear layers that exist, and say where a name is another module of the model."""
    known = sorted({_short(path) for path in linear})
    shown = ", ".join(known[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
    prefix = f"{model.base_model_prefix}."
    paths = {path for path, _ in model.named_modules()}
    outside = [
        name
        for name in unknown
        if any(_matches(path, name) and not path.startswith(prefix) for path in paths)
    ]
    names = ", ".join(unknown[:_SHOWN])
    hint = f" ({outside[0]} is in the head, which is trained without adapters)" if outside else ""
    return Refused(
        "UnknownTargetModule",
        f"{names}: no such linear layer in the encoder{hint}; it has {shown}",
        f"{field}.targetModules",
    )


def _short(path: str) -> str:
    """Return the end of a path after the number of the layer."""
    parts = path.split(".")
    numbers = [index for index, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[numbers[-1] + 1 :] if numbers else parts)
