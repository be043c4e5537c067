"""Prepares the parent's weights for training: new labels, frozen layers, dropout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn
from transformers import AutoConfig

from springtide_trainer.artifact import head
from springtide_trainer.artifact.models import load_model
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from springtide_api.update.training import Freeze, Hyperparameters

_FREEZE = "spec.training.hyperparameters.freeze.lowerLayers"


def load(folder: Path, labels: list[str], options: Hyperparameters) -> PreTrainedModel:
    """Load a verified parent for training.

    Raises:
        Refused: the parent has other labels or fewer layers than are to be frozen, or does not
            support gradient checkpointing.
    """
    dropouts = dict.fromkeys(_dropouts(folder), float(options.dropout))
    model = load_model(folder, **dropouts)
    known = head.names(model)
    if labels[: len(known)] != known:
        message = f"the parent has labels {known}, the recipe {labels}; labels may only be appended"
        raise Refused("LabelMismatch", message, "spec.model.labels")
    head.grow(model, labels, options.seed)
    freeze(model, options.freeze)
    if options.gradient_checkpointing:
        _checkpoint_activations(model)
    return model


def restore_dropout(model: PreTrainedModel, folder: Path) -> None:
    """Set the dropout of the configuration back to the parent's: training's is not saved."""
    for name, value in _dropouts(folder).items():
        setattr(model.config, name, value)


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


def _dropouts(folder: Path) -> dict[str, Any]:
    """Return all dropout probabilities of a configuration, by name."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return {
        name: value
        for name, value in config.to_dict().items()
        if ("dropout" in name or name.endswith("pdrop"))
        and (value is None or isinstance(value, int | float))
        and not isinstance(value, bool)
    }


def _checkpoint_activations(model: PreTrainedModel) -> None:
    try:
        model.activation_checkpointing_enable({"use_reentrant": False})
    except ValueError as unable:
        raise Refused(
            "UnsupportedModel", str(unable), "spec.training.hyperparameters.gradientCheckpointing"
        ) from unable
