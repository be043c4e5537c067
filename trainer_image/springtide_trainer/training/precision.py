"""Numeric precision and deterministic kernels. Weights and their updates are always FP32."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from springtide_trainer.errors import Refused
from springtide_trainer.training.optimizer import clip

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import Tensor, nn

SHORT = 256
"""Tokens below which the CPU's flash attention is slower than plain attention, in BF16.
In FP32 it is faster at every length: 1.1 to 1.6 times up to 128 tokens, 3 times at 256.
Below it a GPU does without cuDNN's attention."""

_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
_UNPREPARED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
"""The attention kernels of a GPU, without those of cuDNN."""
_NOT_DETERMINISTIC = " does not have a deterministic implementation"
"""Part of PyTorch's error message."""

GPU_MATMUL = "high"
"""Precision of FP32 matrix products while training on a GPU: TF32, with 10 bits of mantissa."""

LEAST_SCALE = 1.0
"""Smallest loss scale of FP16. The scale is halved for every skipped step."""

Format = Literal["FP32", "BF16", "FP16"]


class Precision:
    """Runs forward passes in one format; scales the loss so that FP16 gradients do not vanish."""

    def __init__(self, name: Format, device: torch.device) -> None:
        self.name = name
        self.device = device
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "FP16")
        self.stepped = False
        """At least one step was taken and not skipped."""

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Enter the number format of the forward pass; on a GPU FP32 matrix products are TF32."""
        with self._matmul(), self._autocast():
            yield

    def backward(self, loss: Tensor) -> None:
        """Accumulate the gradients of a loss."""
        with self._matmul():
            torch.autograd.backward(self.scaler.scale(loss))

    def _autocast(self) -> AbstractContextManager[object]:
        if self.name == "FP32":
            return nullcontext()
        dtype = torch.bfloat16 if self.name == "BF16" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype)

    @contextmanager
    def _matmul(self) -> Iterator[None]:
        """Use TF32 for FP32 matrix products on a GPU, in this block: validation is FP32."""
        if self.device.type != "cuda":
            yield
            return
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(GPU_MATMUL)
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)

    def step(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: Iterable[nn.Parameter],
        max_grad_norm: float,
    ) -> Tensor:
        """Clip the gradients and step; return their norm before, a scalar on the device.

        The norm is not read, because that would wait for a GPU. FP16 alone reads it: it skips a
        step whose norm is not finite and lowers its scale, and the result is 0. This is how it
        finds the scale. At the smallest scale the norm is returned, without a step.
        """
        self.scaler.unscale_(optimizer)
        norm = clip(parameters, max_grad_norm)
        if self.name != "FP16":
            optimizer.step()
            self.stepped = True
            return norm
        finite = bool(torch.isfinite(norm))
        if not finite and self.scaler.get_scale() <= LEAST_SCALE:
            return norm
        self.scaler.step(optimizer)
        self.scaler.update()
        self.stepped |= finite
        return norm if finite else torch.zeros_like(norm)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs."""
        return {"scaler": self.scaler.state_dict(), "stepped": self.stepped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        self.scaler.load_state_dict(state["scaler"])
        self.stepped = bool(state["stepped"])


def resolve(wanted: Literal["Auto", "FP32", "BF16", "FP16"], device: torch.device) -> Precision:
    """Choose the format: Auto is BF16 where the hardware computes it faster than FP32.

    Raises:
        Refused: FP16 without a GPU.
    """
    if wanted == "Auto":
        return Precision("BF16" if fast_bf16(device) else "FP32", device)
    if wanted == "FP16" and device.type != "cuda":
        raise Refused(
            "NoGpu",
            "precision FP16 needs a GPU and this pod has none; set precision to Auto or "
            "training.compute.gpusPerNode to 1",
            "spec.training.hyperparameters.precision",
        )
    return Precision(wanted, device)


def fast_bf16(device: torch.device) -> bool:
    """Return whether the hardware computes BF16 faster than FP32. Emulation is slower.

    Intel's CPUs with AMX are much slower in BF16 where AMX is missing, as in many virtual machines:
    by AVX-512 instructions they reach 79 GFLOP/s, in FP32 139. They are those with avx512_fp16.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    able = torch.cpu.get_capabilities()
    if able.get("amx_bf16") or able.get("bf16"):
        return True
    return bool(able.get("avx512_bf16")) and not able.get("avx512_fp16")


@contextmanager
def deterministic_attention(
    device: torch.device, longest: int, name: Format = "BF16"
) -> Iterator[None]:
    """Select deterministic kernels for a training run, and the fastest attention among them.

    An operation without a deterministic kernel raises an error, not a warning.

    Args:
        device: The device of the run.
        longest: Number of tokens of the longest row.
        name: The number format of the run.

    Raises:
        Refused: an operation of the model has no deterministic kernel on this device.
    """
    before = torch.are_deterministic_algorithms_enabled()
    warning = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn.deterministic
    settings: Any = torch.utils.deterministic
    fill = settings.fill_uninitialized_memory
    os.environ.setdefault(*_WORKSPACE)  # read by cuBLAS when a process first multiplies on a GPU
    torch.use_deterministic_algorithms(mode=True)
    torch.backends.cudnn.deterministic = True
    settings.fill_uninitialized_memory = False  # costs time and changes no result
    try:
        with _attention(device, longest, name):
            yield
    except RuntimeError as error:
        if _NOT_DETERMINISTIC not in str(error):
            raise
        raise _no_kernel(str(error)) from error
    finally:
        torch.use_deterministic_algorithms(mode=before, warn_only=warning)
        torch.backends.cudnn.deterministic = cudnn
        settings.fill_uninitialized_memory = fill


def quick_attention(longest: int) -> AbstractContextManager[None]:
    """Select the attention kernels of a GPU that need no preparation, for short rows.

    cuDNN's attention prepares for each new shape of a batch. With rows of at most 128 tokens that
    took 35 ms of a step, on average over 20 steps on an H100, of which the kernels took 2.

    Args:
        longest: Number of tokens of the longest row.
    """
    return sdpa_kernel(_UNPREPARED) if longest < SHORT else nullcontext()


def _attention(device: torch.device, longest: int, name: Format) -> AbstractContextManager[object]:
    """Select the attention kernels: on a GPU those with a deterministic backward pass."""
    if device.type == "cuda":
        return sdpa_kernel(_UNPREPARED)
    plain = name == "BF16" and longest < SHORT
    return sdpa_kernel([SDPBackend.MATH]) if plain else nullcontext()


def _no_kernel(error: str) -> Refused:
    operation = error.partition(_NOT_DETERMINISTIC)[0].strip()[:80]
    return Refused(
        "NotDeterministic",
        f"{operation} of this model has no deterministic kernel on this GPU; remove "
        "training.hyperparameters.deterministic, or set training.compute.gpusPerNode to 0",
        "spec.training.hyperparameters.deterministic",
    )


def environment(precision: Precision) -> dict[str, str | int]:
    """Describe what bit-equal weights depend on besides data, recipe and parent."""
    gpu = precision.device.type == "cuda"
    return {
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "precision": precision.name,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }
