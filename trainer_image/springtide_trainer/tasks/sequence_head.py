"""Models of sequences with a head of named outputs: loading, order and growth of the outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification

from springtide_trainer.errors import Refused
from springtide_trainer.tasks import parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from transformers import PreTrainedModel


def load(folder: Path, **options: Any) -> Any:
    """Load a model in FP32 from safetensors, without custom code or network access.

    Args:
        folder: A Hugging Face folder that has been checked.
        options: Arguments of `from_pretrained`, such as fields of the model's configuration.

    Returns:
        The model; with `output_loading_info=True` also the report of missing weights.
    """
    return parts.load(AutoModelForSequenceClassification, folder, **options)


def seed(model: PreTrainedModel, names: Iterable[str], seed: int) -> None:
    """Initialize these parameters as new layers, identically for the same seed on every machine.

    Matrices are normal with the model's `initializer_range`, biases are 0 and normalization
    weights 1. The model library's own initialization is not used, so its version has no effect.
    """
    generator = torch.Generator().manual_seed(seed)
    spread = float(getattr(model.config, "initializer_range", 0.02) or 0.02)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in sorted(names):
            parameter = parameters[name]
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
            else:
                parameter.fill_(0.0 if name.endswith("bias") else 1.0)


def outside_base(model: PreTrainedModel) -> set[str]:
    """Return the names of the head's parameters: those outside the encoder."""
    prefix = f"{model.base_model_prefix}."
    return {name for name, _ in model.named_parameters() if not name.startswith(prefix)}


def output_layer(model: PreTrainedModel) -> tuple[str, nn.Linear]:
    """Find the last layer, whose weights [labels, hidden] compute the logits."""
    prefix = f"{model.base_model_prefix}."
    layers = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module.out_features == model.config.num_labels
        and not name.startswith(prefix)
    ]
    return layers[-1]


def reorder(model: PreTrainedModel, labels: Sequence[str]) -> None:
    """Reorder the rows of the last layer so that output i is `labels[i]`."""
    known = {name: number for number, name in enumerate(names(model))}
    rows = torch.tensor([known[label] for label in labels])
    _, layer = output_layer(model)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(parameter[rows].clone())
    name_labels(model, labels)


def grow(model: PreTrainedModel, labels: Sequence[str], seed_: int) -> None:
    """Add outputs for appended labels; the existing rows are kept."""
    name, old = output_layer(model)
    if len(labels) == old.out_features:
        return
    new = nn.Linear(old.in_features, len(labels), bias=old.bias is not None)
    parent = model.get_submodule(name.rpartition(".")[0])
    setattr(parent, name.rpartition(".")[2], new)
    seed(model, [f"{name}.{part}" for part, _ in new.named_parameters()], seed_)
    with torch.no_grad():
        for part, parameter in new.named_parameters():
            kept = old.get_parameter(part)
            parameter[: len(kept)] = kept
    model.num_labels = len(labels)  # type: ignore[assignment]
    name_labels(model, labels)


def rescale(model: PreTrainedModel, *, location: float, spread: float) -> None:
    """Change the last layer so that its outputs are (output - location) / spread.

    Raises:
        Refused: the layer has no bias, and the location is not 0.
    """
    _, layer = output_layer(model)
    if layer.bias is None and location:
        raise Refused(
            "UnsupportedModel",
            f"the head has no bias, so its outputs cannot be shifted by {location:g}; set "
            'location "0", or use a model without a head',
            "spec.model.regression.location",
        )
    with torch.no_grad():
        layer.weight.div_(spread)
        if layer.bias is not None:
            layer.bias.sub_(location).div_(spread)


def names(model: PreTrainedModel) -> list[str]:
    """Return the label of each output, in order."""
    known = {int(number): name for number, name in (model.config.id2label or {}).items()}
    return [known[number] for number in sorted(known)]


def name_labels(model: PreTrainedModel, labels: Sequence[str]) -> None:
    """Write the labels of the outputs to the configuration."""
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: number for number, label in enumerate(labels)}
