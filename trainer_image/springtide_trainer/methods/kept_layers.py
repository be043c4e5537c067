"""Removes layers of an initial model, once: what is left is another, smaller model."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import torch

from springtide_trainer.errors import Refused
from springtide_trainer.methods.layers import layer_list

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from torch import nn
    from transformers import PreTrainedModel

    from springtide_trainer.tasks.task import Learning

log = logging.getLogger(__name__)

FIELD = "spec.model.keepLayers"


def keep_layers(model: PreTrainedModel, kept: Sequence[int]) -> bool:
    """Remove all layers of a model but these, in place.

    So DistilBERT was initialized: every second layer of its teacher (Sanh et al. 2019,
    arXiv:1910.01108, section 3).

    Args:
        model: The model; its configuration is changed too.
        kept: Numbers of the layers, from 0 at the input, in any order.

    Returns:
        Whether a layer was removed.

    Raises:
        Refused: the model has no such layer, or its layers share weights.
    """
    layers, count = layer_list(model), getattr(model.config, "num_hidden_layers", 0)
    if layers is None or len(layers) != count:
        message = (
            f"model_type {model.config.model_type!r} has no list of {count} layers, so none can be "
            "removed; remove keepLayers, or use another model"
        )
        raise Refused("UnsupportedModel", message, FIELD)
    if max(kept) >= count:
        message = f"keepLayers has layer {max(kept)}; the model has layers 0 to {count - 1}"
        raise Refused("NoSuchLayer", message, FIELD)
    for number in reversed(range(count)):
        if number not in kept:
            del layers[number]
    _renumber(layers)
    model.config.num_hidden_layers = len(layers)
    types = getattr(model.config, "layer_types", None)
    if types is not None:
        model.config.layer_types = [types[number] for number in sorted(kept)]
    return len(layers) < count


def check_loaded(model: PreTrainedModel, task: Learning, folder: Path) -> None:
    """Check that a model without some layers computes the same after it is loaded.

    Raises:
        Refused: its configuration says something of each layer that was not changed.
    """
    tokens = torch.arange(min(8, model.config.vocab_size))[None] % model.config.vocab_size
    inputs = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    try:
        with torch.no_grad():
            expected, found = (_logits(each, inputs) for each in (model, task.load(folder)))
        same = torch.allclose(expected, found, atol=1e-5)
    except (RuntimeError, ValueError, IndexError, KeyError) as wrong:
        log.warning("shortened model cannot be loaded", extra={"error": str(wrong)})
        same = False
    if not same:
        message = (
            f"model_type {model.config.model_type!r} has settings for each layer, so none can be "
            "removed; remove keepLayers, or use another model"
        )
        raise Refused("UnsupportedModel", message, FIELD)


def _logits(model: Any, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    logits: torch.Tensor = model.eval()(**inputs).logits
    return logits


def _renumber(layers: Iterable[nn.Module]) -> None:
    """Number the layers of a decoder: its cache of keys and values goes by these numbers."""
    for number, layer in enumerate(layers):
        module: Any
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = number
