"""Bottleneck adapters: small layers behind linear layers of an encoder, a part of the model.

The output y of a linear layer becomes y + up(gelu(down(y))), where `down` has few outputs (Houlsby
et al. 2019, "Parameter-Efficient Transfer Learning for NLP", arXiv:1902.00751). They are not linear
and cannot be merged (`parts`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

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


def _through(module: nn.Module, given: object, made: Tensor) -> Tensor:
    passed: Tensor = module.get_submodule(_CHILD)(made)
    return passed
