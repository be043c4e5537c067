"""Finds the lower layers of a model, which `freeze.lowerLayers` counts from the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FIELD = "spec.training.hyperparameters.freeze.lowerLayers"


def lower_layers(model: PreTrainedModel, count: int) -> list[nn.Module]:
    """Return the first `count` layers of a model.

    Raises:
        Refused: the model has fewer layers.
    """
    if count == 0:
        return []
    layers = _layers(model.base_model, model.config.num_hidden_layers)
    if count > len(layers):
        message = f"lowerLayers is {count}, the model has {len(layers)} layers; lower it"
        raise Refused("TooManyFrozenLayers", message, _FIELD)
    return list(layers[:count])


def _layers(base: nn.Module, count: int) -> nn.ModuleList:
    """Find the list of layers: the one with as many layers as the configuration says."""
    lists = [module for module in base.modules() if isinstance(module, nn.ModuleList)]
    return next((found for found in lists if len(found) == count), lists[0])
