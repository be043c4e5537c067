"""Finds the layers of a model, counted from the input."""

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
    layers = all_layers(model)
    if count > len(layers):
        message = f"lowerLayers is {count}, the model has {len(layers)} layers; lower it"
        raise Refused("TooManyFrozenLayers", message, _FIELD)
    return layers[:count]


def all_layers(model: PreTrainedModel) -> list[nn.Module]:
    """Return the layers of a model: the list with as many as its configuration says.

    Without one it is the first list of modules, and of a model without lists none.
    """
    return list(layer_list(model) or [])


def layer_list(model: PreTrainedModel) -> nn.ModuleList | None:
    """Return the list that `all_layers` reads; None for a model without lists."""
    count = getattr(model.config, "num_hidden_layers", 0)
    lists = [module for module in model.base_model.modules() if isinstance(module, nn.ModuleList)]
    return next((found for found in lists if len(found) == count), next(iter(lists), None))
