"""Linear layers whose frozen weights have 4 bits each while adapters beside them are trained.

QLoRA (Dettmers et al. 2023, https://arxiv.org/abs/2305.14314), through bitsandbytes: blocks of 64
weights in NF4, whose scales have 8 bits in turn. bitsandbytes is imported where it is used, because
the trainer image does not have it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from torch import Tensor

_FIELD = "spec.training.method.lora.quantization"
_OLDEST = (0, 50)
"""Earlier versions of bitsandbytes multiply by the transposed weights of these layers."""


class FourBits(nn.Module):
    """A frozen linear layer in 4 bits, which passes gradients on to its inputs.

    Its forward pass has the types of `torch.nn.Linear`, also under autocast.

    Attributes:
        exact: The layer that it was made of. It is no part of the module, so that it stays in the
            memory of the CPU when the module moves to a GPU.
    """

    def __init__(self, layer: nn.Linear, library: Any) -> None:
        super().__init__()
        self.exact = (layer,)
        stored = library.nn.Params4bit(
            layer.weight.detach().clone(), requires_grad=False, quant_type="nf4"
        )
        self.weight = stored.to("cpu")  # this quantizes
        self.bias = layer.bias
        self._multiply = library.matmul_4bit

    def forward(self, inputs: Tensor) -> Tensor:
        """Multiply inputs [..., columns] by the dequantized weights; return [..., rows]."""
        kind = inputs.device.type
        if torch.is_autocast_enabled(kind):
            inputs = inputs.to(torch.get_autocast_dtype(kind))
        bias = self.bias if self.bias is None else self.bias.to(inputs.dtype)
        outputs: Tensor = self._multiply(
            inputs, self.weight, bias=bias, quant_state=self.weight.quant_state
        )
        return outputs


def quantize(base: nn.Module) -> None:
    """Store the frozen linear layers of a base model in 4 bits, in place, on the CPU.

    Args:
        base: The base model, without its head, with adapters.

    Raises:
        Refused: bitsandbytes is not installed, or no layer of the model is of type
            `torch.nn.Linear`.
    """
    library = _library()
    frozen = [
        (path, layer)
        for path, layer in base.named_modules()
        if type(layer) is nn.Linear and not layer.weight.requires_grad
    ]
    if not frozen:
        raise Refused(
            "UnsupportedModel",
            f"{type(base).__name__} has no layers of type torch.nn.Linear, and no others are "
            "stored in 4 bits; remove quantization",
            _FIELD,
        )
    for path, layer in frozen:
        base.set_submodule(path, FourBits(layer, library))


def restore(base: nn.Module) -> None:
    """Put the layers that `quantize` stored back, as they were, on the CPU."""
    stored = [(path, each) for path, each in base.named_modules() if isinstance(each, FourBits)]
    for path, each in stored:
        base.set_submodule(path, each.exact[0])


def _library() -> Any:
    """Import bitsandbytes.

    Raises:
        Refused: it is not installed, or too old.
    """
    try:
        import bitsandbytes
    except ImportError as missing:
        raise Refused(
            "MissingPackage",
            f"bitsandbytes cannot be imported: {missing}; name an image that has it in "
            "training.image, or remove quantization",
            _FIELD,
        ) from missing
    found = bitsandbytes.__version__
    if tuple(map(int, found.split(".")[:2])) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise Refused(
            "MissingPackage",
            f"bitsandbytes is {found}, and at least {oldest} is needed; name an image that has it "
            "in training.image, or remove quantization",
            _FIELD,
        )
    return bitsandbytes
