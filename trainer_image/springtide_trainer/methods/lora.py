"""LoRA: low-rank adapters beside linear layers of the encoder, through the library peft.

Adapters are injected into the base model only. The head is outside of it, so peft needs no task
type, and the head's parameters keep their names and are trained and saved as with Full.
peft is imported where it is used, because evaluation and server need none.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from springtide_api.contract import ExitCode
from springtide_api.update.method import LoRA as Options
from springtide_trainer.artifact import saving
from springtide_trainer.errors import Refused
from springtide_trainer.methods import adapter
from springtide_trainer.methods.layers import lower_layers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from transformers import PreTrainedModel

    from springtide_api.update.training import Training
    from springtide_trainer.methods.adapter import Continued

_FIELD = "spec.training.method.lora"
_SHOWN = 12
"""Names that a message lists."""


class LoRA:
    """Trains adapters and the head; the artifact is the model with the adapters merged."""

    def prepare(
        self,
        model: PreTrainedModel,
        training: Training,
        *,
        seed: int,
        continued: Continued | None = None,
    ) -> PreTrainedModel:
        """Freeze the base model and inject adapters into it; layers of `freeze` get none.

        To continue an adapter, its target modules get the weights of its base again, without the
        adapter that was merged into them. Everything else is as in the model.

        Raises:
            Refused: a target module does not exist or is no linear layer of the base model, or the
                rank is larger than a side of its weights, or the continued adapter is another one.
        """
        options = training.method.lora or Options()
        frozen = lower_layers(model, training.hyperparameters.freeze.lower_layers)
        targets = choose_targets(model, options.target_modules, frozen)
        _check_rank(targets, options.rank)
        if continued is not None:
            continued.restore_base(targets)
        _inject(model.base_model, targets, options, seed=seed)
        language_model: Any = model
        if (head := language_model.get_output_embeddings()) is not None:
            # A language model's head is not new, and as large as its word embeddings.
            head.requires_grad_(requires_grad=False)
        if continued is not None:
            continued.load(model.base_model)
        return model

    def merge(self, model: PreTrainedModel) -> None:
        """Add the adapters to the weights beside them and remove them."""
        merge(model)

    def export(self, model: PreTrainedModel, folder: Path) -> None:
        """Merge the adapters and write the model in the format of transformers."""
        merge(model)
        saving.save_model(model, folder)


def choose_targets(
    model: PreTrainedModel, names: Sequence[str], frozen: Sequence[nn.Module]
) -> dict[str, nn.Module]:
    """Return the layers that get adapters, by their path in the base model.

    Args:
        model: A model with its head.
        names: Last parts of the paths of the target modules; empty for all linear layers.
        frozen: Layers whose modules get no adapters.

    Raises:
        Refused: a name matches no linear layer of the base model, or only frozen ones.
    """
    excluded = {id(module) for layer in frozen for module in layer.modules()}
    linear: dict[str, nn.Module] = {
        path: module
        for path, module in model.base_model.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    }
    if unknown := [name for name in names if not any(_matches(path, name) for path in linear)]:
        raise _unknown_targets(model, unknown, linear)
    chosen = {
        path: module
        for path, module in linear.items()
        if id(module) not in excluded and (not names or any(_matches(path, name) for name in names))
    }
    if not chosen:
        raise Refused(
            "NoTargetModule",
            f"all target modules are in the {len(frozen)} layers of freeze.lowerLayers, which get "
            "no adapters; lower it, or name other modules",
            f"{_FIELD}.targetModules",
        )
    return chosen


def merge(model: PreTrainedModel) -> None:
    """Add each adapter to the weights beside it and remove it, in place.

    Raises:
        Refused: a merged weight is not finite.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    adapted: dict[str, Any] = {
        path: module for path, module in model.named_modules() if isinstance(module, BaseTunerLayer)
    }
    if not adapted:  # merged before
        return
    for path, module in adapted.items():
        module.merge()
        merged = module.get_base_layer()
        if not bool(merged.weight.isfinite().all()):
            raise Refused(
                "Diverged",
                f"the merged weights of {path} are not finite; lower "
                "training.hyperparameters.learningRate or training.method.lora.alpha",
                "spec.training.hyperparameters.learningRate",
                ExitCode.DIVERGED,
            )
        model.set_submodule(path, merged)
    del model.base_model.peft_config


def _inject(
    base: nn.Module, targets: Mapping[str, nn.Module], options: Options, *, seed: int
) -> None:
    """Put an adapter beside each target; only these parameters of the base model are trained."""
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=float(options.dropout),
        use_rslora=options.rs_lora,
        use_dora=options.dora,
        # A list would be matched against the ends of all paths, a pattern against whole paths.
        target_modules="|".join(re.escape(path) for path in targets),
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")  # peft corrects it
        torch.manual_seed(seed)
        inject_adapter_in_model(config, base, adapter.NAME)
    for module in base.modules():
        if isinstance(module, BaseTunerLayer):
            # Under autocast the input would be converted to FP32 and back for each adapter.
            _without_input_casts(module)


def _without_input_casts(module: Any) -> None:
    module.cast_input_dtype_enabled = False


def _matches(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _check_rank(targets: Mapping[str, nn.Module], rank: int) -> None:
    path, layer = min(targets.items(), key=lambda target: min(_weight(target[1]).shape))
    rows, columns = _weight(layer).shape
    if rank > (limit := min(rows, columns)):
        raise Refused(
            "RankTooLarge",
            f"rank is {rank}, the weights of {path} are {rows} x {columns}, and a rank above "
            f"{limit} has no effect; lower it to at most {limit}, or name other target modules",
            f"{_FIELD}.rank",
        )


def _weight(layer: nn.Module) -> torch.Tensor:
    weight = layer.weight
    assert isinstance(weight, torch.Tensor)
    return weight


def _unknown_targets(
    model: PreTrainedModel, unknown: Sequence[str], linear: Mapping[str, nn.Module]
) -> Refused:
    """Name the linear layers that exist, and say where a name is another module of the model."""
    known = sorted({_short(path) for path in linear})
    shown = ", ".join(known[:_SHOWN]) + (", ..." if len(known) > _SHOWN else "")
    prefix = f"{model.base_model_prefix}."
    paths = {path for path, _ in model.named_modules()}
    outside = [
        name
        for name in unknown
        if any(_matches(path, name) and not path.startswith(prefix) for path in paths)
    ]
    names = ", ".join(unknown[:_SHOWN])
    hint = f" ({outside[0]} is in the head, which is trained without adapters)" if outside else ""
    return Refused(
        "UnknownTargetModule",
        f"{names}: no such linear layer in the encoder{hint}; it has {shown}",
        f"{_FIELD}.targetModules",
    )


def _short(path: str) -> str:
    """Return the end of a path after the number of the layer."""
    parts = path.split(".")
    numbers = [index for index, part in enumerate(parts) if part.isdigit()]
    return ".".join(parts[numbers[-1] + 1 :] if numbers else parts)
