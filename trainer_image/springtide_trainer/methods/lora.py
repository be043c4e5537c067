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

from springtide_api.contract import ExitCode
from springtide_api.update.method import LoRA as Options
from springtide_trainer.artifact import saving
from springtide_trainer.errors import Refused
from springtide_trainer.methods import adapter, four_bits
from springtide_trainer.methods.held_parts import check_parts
from springtide_trainer.methods.layers import lower_layers
from springtide_trainer.methods.targets import check_rank, choose_targets

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from peft import LoraConfig
    from torch import nn
    from transformers import PreTrainedModel

    from springtide_api.update.training import Training
    from springtide_trainer.methods.adapter import Continued

_FIELD = "spec.training.method.lora"


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

        With `quantization` all linear layers of the base model are in 4 bits until `merge`.

        Raises:
            Refused: a target module does not exist or is no linear layer of the base model, or the
                rank is larger than a side of its weights, or the continued adapter is another one,
                or bitsandbytes is missing.
        """
        options = training.method.lora or Options()
        check_parts(model, "LoRA")
        frozen = lower_layers(model, training.hyperparameters.freeze.lower_layers)
        targets = choose_targets(model, options.target_modules, frozen, field=_FIELD)
        check_rank(targets, options.rank, f"{_FIELD}.rank")
        if continued is not None:
            continued.restore_base(targets)
        inject(model.base_model, _config(options, targets), seed=seed)
        freeze_language_head(model)
        if continued is not None:
            continued.load(model.base_model)
        if options.quantization is not None:
            four_bits.quantize(model.base_model)
        return model

    def each_step(self, model: PreTrainedModel, training: Training, *, total: int) -> None:
        """Nothing: adapters are trained as they are."""

    def merge(self, model: PreTrainedModel) -> None:
        """Add the adapters to the weights beside them and remove them."""
        merge(model)

    def export(self, model: PreTrainedModel, folder: Path) -> None:
        """Merge the adapters and write the model in the format of transformers."""
        merge(model)
        saving.save_model(model, folder)


def merge(model: PreTrainedModel) -> None:
    """Add each adapter to the weights beside it and remove it, in place.

    Weights that were stored in 4 bits are those from before: what 4 bits lose would add up over
    generations.

    Raises:
        Refused: a merged weight is not finite.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    four_bits.restore(model.base_model)
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
                "training.hyperparameters.learningRate or the alpha of training.method",
                "spec.training.hyperparameters.learningRate",
                ExitCode.DIVERGED,
            )
        model.set_submodule(path, merged)
    del model.base_model.peft_config


def freeze_language_head(model: Any) -> None:
    """Freeze the head of a language model: it is not new, and as large as its word embeddings."""
    if (head := model.get_output_embeddings()) is not None:
        head.requires_grad_(requires_grad=False)


def pattern(targets: Iterable[str]) -> str:
    """Return whole paths as peft takes them; a list would be matched against ends of paths."""
    return "|".join(re.escape(path) for path in targets)


def inject(base: nn.Module, config: LoraConfig, *, seed: int) -> None:
    """Put an adapter beside each target; only these parameters of the base model are trained.

    Args:
        base: The base model, without its head.
        config: Options of the adapters, with their targets as `pattern` returns them.
        seed: Seed of the adapters.
    """
    from peft import inject_adapter_in_model
    from peft.tuners.tuners_utils import BaseTunerLayer

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")  # peft corrects it
        torch.manual_seed(seed)
        inject_adapter_in_model(config, base, adapter.NAME)
    for module in base.modules():
        if isinstance(module, BaseTunerLayer):
            # Under autocast the input would be converted to FP32 and back for each adapter.
            _without_input_casts(module)


def _config(options: Options, targets: Iterable[str]) -> LoraConfig:
    from peft import LoraConfig

    return LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=float(options.dropout),
        use_rslora=options.rs_lora,
        use_dora=options.dora,
        target_modules=pattern(targets),
    )


def _without_input_casts(module: Any) -> None:
    module.cast_input_dtype_enabled = False
