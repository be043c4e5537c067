"""Number format and kernels of training. Weights and their updates are FP32 in every case."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor, nn

SHORT = 256
"""Tokens below which the backward pass of the CPU's flash attention is slower than plain one."""

_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
_NOT_DETERMINISTIC = " does not have a deterministic implementation"
"""In the words of the error that PyTorch raises."""

LEAST_SCALE = 1.0
"""FP16 multiplies the loss by its scale, and halves it for every step that it leaves out."""

Format = Literal["FP32", "BF16", "FP16"]


class Precision:
    """Runs forward passes in one format and steps so that small gradients survive it."""

    def __init__(self, name: Format, device: torch.device) -> None:
        self.name = name
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "FP16")
        self.stepped = False
        """A step was taken, and not left out."""

    def forward(self) -> AbstractContextManager[object]:
        """Enter the number format of the forward pass."""
        if self.name == "FP32":
            return nullcontext()
        dtype = torch.bfloat16 if self.name == "BF16" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those that are there."""
        torch.autograd.backward(self.scaler.scale(loss))

    def step(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Iterable[nn.Parameter],
        max_grad_norm: float,
    ) -> bool:
        """Clip and step. Returns False, without a step, where the gradient is not finite.

        FP16 leaves such a step out, lowers its scale and goes on: that is how it finds the scale.
        A gradient that is not finite without any scale will not become finite by a lower one.
        """
        self.scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm)
        finite = bool(torch.isfinite(norm))
        if not finite and (self.name != "FP16" or self.scaler.get_scale() <= LEAST_SCALE):
            return False
        self.scaler.step(optimizer)
        self.scaler.update()
        self.stepped |= finite
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs."""
        return {"scaler": self.scaler.state_dict(), "stepped": self.stepped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from the state of a checkpoint."""
        self.scaler.load_state_dict(state["scaler"])
        self.stepped = bool(state["stepped"])


def resolve(wanted: Literal["Auto", "FP32", "BF16", "FP16"], device: torch.device) -> Precision:
    """Choose the format: Auto is BF16 where the hardware computes it (emulation is slower).

    Raises:
        Refused: FP16 without a GPU.
    """
    if wanted == "Auto":
        return Precision("BF16" if computes_bf16(device) else "FP32", device)
    if wanted == "FP16" and device.type != "cuda":
        raise Refused(
            "NoGpu",
            "precision FP16 needs a GPU and this pod has none; set precision to Auto or "
            "training.compute.gpusPerNode to 1",
            "spec.training.hyperparameters.precision",
        )
    return Precision(wanted, device)


def computes_bf16(device: torch.device) -> bool:
    """Tell whether the hardware has instructions for BF16."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    return any(bool(able.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


@contextmanager
def kernels(device: torch.device, longest: int) -> Iterator[None]:
    """Choose kernels for a training run: the quick ones for its rows, with sums in one order.

    An operation that has no such kernel is an error, not a warning: the same weights are promised.

    Args:
        device: Where the run computes.
        longest: Tokens of the longest row.

    Raises:
        Refused: an operation of the model has no deterministic kernel on this device.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warning = torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic
    fill = settings.fill_uninitialized_memory
    os.environ.setdefault(*_WORKSPACE)  # read by cuBLAS when a process first multiplies on a GPU
    torch.use_deterministic_algorithms(mode=True)
    settings.fill_uninitialized_memory = False  # it costs time and changes no result
    try:
        with _attention(device, longest):
            yield
    except RuntimeError as error:
        if _NOT_DETERMINISTIC not in str(error):
            raise
        raise _no_kernel(str(error)) from error
    finally:
        torch.use_deterministic_algorithms(mode=before, warn_only=warning)
        settings.fill_uninitialized_memory = fill


def _attention(device: torch.device, longest: int) -> AbstractContextManager[object]:
    """Choose the kernels of attention: on a GPU those that have a deterministic backward pass."""
    if device.type == "cuda":
        return sdpa_kernel(
            [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
        )
    return sdpa_kernel([SDPBackend.MATH]) if longest < SHORT else nullcontext()


def _no_kernel(said: str) -> Refused:
    operation = said.partition(_NOT_DETERMINISTIC)[0].strip()[:80]
    return Refused(
        "NotDeterministic",
        f"{operation} of this model has no deterministic kernel on this GPU, and the same data and "
        "seed must give the same weights; set training.compute.gpusPerNode to 0, or start from "
        "another model",
        "spec.training.compute.gpusPerNode",
    )


def environment(precision: Precision) -> dict[str, str | int]:
    """Describe what decides the last bits of the weights, besides data, recipe and parent."""
    gpu = precision.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "precision": precision.name,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }
