"""Bottleneck adapters: small layers behind linear layers of an encoder, a part of the model.

The output y of a linear layer becomes y + up(gelu(down(y))), where `down` has few outputs (Houlsby
et al. 2019, "Parameter-Efficient Transfer Learning for NLP", arXiv:1902.00751). They are not linear
and cannot be merged. Plain transformers would load a model without them and without an error, so
its weights have a name that only this code asks for.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedModel

VARIANT = "adapted"
"""The variant of the weights, as transformers calls it: `model.adapted.safetensors`."""
SETTINGS = "bottlenecks.json"
WEIGHTS = "bottlenecks.safetensors"
_CHILD = "bottleneck"


class Bottleneck(nn.Module):
    """Adds what passes through a few units. New ones add nothing.

    Args:
        size: Size of inputs and outputs.
        width: Number of units.
    """

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(size, width), nn.Linear(width, size)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, given: Tensor) -> Tensor:
        """Return the input plus what the units make of it: [..., size]."""
        added: Tensor = self.up(functional.gelu(self.down(given)))
        return given + added

    @property
    def width(self) -> int:
        """Number of units."""
        return self.down.out_features


def attach(module: Any, width: int) -> None:
    """Put a new bottleneck behind a linear layer."""
    size = module.out_features if isinstance(module, nn.Linear) else module.nf
    module.add_module(_CHILD, Bottleneck(size, width).train(module.training))
    module.register_forward_hook(_through)


def bottlenecks(model: nn.Module) -> dict[str, Bottleneck]:
    """Return the bottlenecks of a model by the path of the layer that each is behind."""
    return {
        path.rpartition(".")[0]: module
        for path, module in model.named_modules()
        if isinstance(module, Bottleneck)
    }


def is_adapted(folder: Path) -> bool:
    """Return whether the model of a folder has bottlenecks."""
    return (folder / SETTINGS).is_file()


def restore(model: PreTrainedModel, folder: Path) -> None:
    """Attach the bottlenecks of a verified folder to its model, in place.

    Args:
        model: The model without them, in FP32.
        folder: The folder.
    """
    widths: dict[str, int] = json.loads((folder / SETTINGS).read_bytes())["widths"]
    with torch.random.fork_rng(devices=[]):
        for path, width in widths.items():
            attach(model.get_submodule(path), width)
    weights, held = _weights(model), load_file(folder / WEIGHTS)
    with torch.no_grad():
        for name in weights.keys() | held.keys():
            weights[name].copy_(held[name])


def save(model: PreTrainedModel, folder: Path) -> None:
    """Write the weights of a model with bottlenecks, and its configuration."""
    own = _weights(model)
    rest = {name: weight for name, weight in model.state_dict().items() if name not in own}
    model.save_pretrained(folder, state_dict=rest, variant=VARIANT)
    tensors = {name: weight.detach().contiguous() for name, weight in own.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    widths = {path: each.width for path, each in bottlenecks(model).items()}
    text = json.dumps({"widths": widths}, sort_keys=True, indent=1)
    (folder / SETTINGS).write_text(text + "\n", encoding="utf-8")


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {
        f"{path}.{_CHILD}.{name}": weight
        for path, each in bottlenecks(model).items()
        for name, weight in each.named_parameters()
    }


def _through(module: nn.Module, given: object, made: Tensor) -> Tensor:
    passed: Tensor = module.get_submodule(_CHILD)(made)
    return passed
