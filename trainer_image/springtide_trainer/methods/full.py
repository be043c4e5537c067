"""Full fine-tuning: all parameters are trained but the frozen ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from springtide_trainer.artifact import saving
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from springtide_api.update.training import Freeze, Hyperparameters

_FREEZE = "spec.training.hyperparameters.freeze.lowerLayers"


class Full:
    """Trains the model itself; the artifact is the model."""

    def prepare(self, model: PreTrainedModel, options: Hyperparameters) -> PreTrainedModel:
        """Freeze the parameters of `freeze`."""
        freeze(model, options.freeze)
        return model

    def export(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the model in the format of transformers."""
        saving.save_model(model, folder)


def freeze(model: PreTrainedModel, options: Freeze) -> None:
    """Freeze word embeddings and the lower layers.

    With frozen layers all embeddings are frozen too, unless `embeddings` is false: otherwise
    gradients would be computed through the frozen layers.

    Raises:
        Refused: the model has fewer layers.
    """
    base = model.base_model
    if options.embeddings:
        model.get_input_embeddings().requires_grad_(requires_grad=False)
    if options.lower_layers == 0:
        return
    layers = _layers(base, model.config.num_hidden_layers)
    if options.lower_layers > len(layers):
        message = (
            f"lowerLayers is {options.lower_layers}, the model has {len(layers)} layers; lower it"
        )
        raise Refused("TooManyFrozenLayers", message, _FREEZE)
    for layer in layers[: options.lower_layers]:
        layer.requires_grad_(requires_grad=False)
    embeddings = getattr(base, "embeddings", None)
    if options.embeddings and isinstance(embeddings, nn.Module):
        embeddings.requires_grad_(requires_grad=False)


def _layers(base: nn.Module, count: int) -> nn.ModuleList:
    """Find the list of layers: the one with as many layers as the configuration says."""
    lists = [module for module in base.modules() if isinstance(module, nn.ModuleList)]
    return next((found for found in lists if len(found) == count), lists[0])
