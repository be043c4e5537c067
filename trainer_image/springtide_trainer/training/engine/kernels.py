"""Which kernels a run uses, and what its weights depend on because of this.

On a CPU all kernels are deterministic. On a GPU the deterministic ones are slower, and some models
have none, so there they are a choice: `deterministic`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_trainer.training import precision

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch

    from springtide_api.update.training import Hyperparameters, Training


def deterministic(device: torch.device, options: Hyperparameters) -> bool:
    """Return whether equal runs give equal weights."""
    return device.type == "cpu" or bool(options.deterministic)


def training_kernels(
    device: torch.device, longest: int, options: Hyperparameters
) -> AbstractContextManager[None]:
    """Select the kernels of a run.

    Args:
        device: The device of the run.
        longest: Number of tokens of the longest row.
        options: The recipe's hyperparameters.

    Raises:
        Refused: an operation of the model has no deterministic kernel on this device, and the
            recipe asks for them; or FP16 without a GPU.
    """
    if deterministic(device, options):
        name = precision.resolve(options.precision, device).name
        return precision.deterministic_attention(device, longest, name)
    return precision.quick_attention(longest)


def recorded(chosen: precision.Precision, training: Training, processes: int = 1) -> bool:
    """Return whether steps are recorded as graphs: on a GPU, where nothing forbids it.

    FP16 reads the norm of each step; activations that are computed twice read the state of the
    random numbers; only AdamW reads the learning rate from the GPU. An adversarial step takes
    gradients within a pass, and several processes add theirs up, which was never recorded, and
    neither were layers in 4 bits. AdaLoRA reads the gradients of each step, and a recorded one
    keeps none.
    """
    options, robustness = training.hyperparameters, training.robustness
    lora = training.method.lora
    return (
        chosen.device.type == "cuda"
        and processes == 1
        and not deterministic(chosen.device, options)
        and chosen.name != "FP16"
        and options.optimizer == "AdamW"
        and not options.gradient_checkpointing
        and training.method.type != "AdaLoRA"
        and (lora is None or lora.quantization is None)
        and (robustness is None or robustness.adversarial is None)
    )


def environment(
    chosen: precision.Precision, options: Hyperparameters, processes: int = 1
) -> dict[str, str | int]:
    """Describe what bit-equal weights depend on besides data, recipe and parent."""
    known = precision.environment(chosen)
    if processes > 1:  # one is not named: checkpoints of earlier versions stay those of it
        known |= {"processes": processes}
    if chosen.device.type == "cpu":
        return known
    return known | {
        "deterministic": int(deterministic(chosen.device, options)),
        "matmul": precision.GPU_MATMUL,
    }
