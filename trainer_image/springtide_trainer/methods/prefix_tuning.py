"""Prefix tuning: keys and values that each attention layer reads first, trained with the head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from springtide_api.update.method import PrefixTuning as Options
from springtide_trainer.artifact import saving
from springtide_trainer.errors import Refused
from springtide_trainer.methods.held_parts import check_parts, check_tokens, train_only
from springtide_trainer.methods.layers import lower_layers
from springtide_trainer.tasks.prefix import attach, attention_shapes, prefixes

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from springtide_api.update.training import Training
    from springtide_trainer.methods.adapter import Continued

_FIELD = "spec.training.method.prefixTuning"


class PrefixTuning:
    """Trains prefixes and the head; the artifact is the model with them (`tasks.prefix`)."""

    def prepare(
        self,
        model: PreTrainedModel,
        training: Training,
        *,
        seed: int,
        continued: Continued | None = None,
    ) -> PreTrainedModel:
        """Freeze the model; its attention layers get a prefix, or keep the one of the parent.

        New ones are small random numbers, so that attention gives their keys a small share and
        their values add little: the scores hardly change. Keys and values of words, with which Li
        and Liang 2021 begin, have the share of words. Layers of `freeze` get none.

        Raises:
            Refused: the model has parts of another method, or prefixes of another length, or
                computes attention itself, or has no layer that is trained.
        """
        options = training.method.prefix_tuning or Options()
        check_parts(model, "PrefixTuning")
        frozen = lower_layers(model, training.hyperparameters.freeze.lower_layers)
        excluded = {id(module) for layer in frozen for module in layer.modules()}
        held = prefixes(model)
        for each in held.values():
            check_tokens(each.tokens, options.tokens, "prefix", _FIELD)
        shapes = attention_shapes(model)
        targets = [path for path in shapes if id(model.get_submodule(path)) not in excluded]
        if not targets:
            raise _no_target(model, len(shapes), len(frozen))
        generator = torch.Generator().manual_seed(seed)
        spread = float(getattr(model.config, "initializer_range", 0.02) or 0.02)
        with torch.no_grad():
            for path in targets:
                if path not in held:
                    heads, size = shapes[path]
                    made = attach(model, path, (heads, options.tokens, size))
                    made.keys.normal_(std=spread, generator=generator)
                    made.values.normal_(std=spread, generator=generator)
        train_only(model, [each for path, each in prefixes(model).items() if path in targets])
        return model

    def each_step(self, model: PreTrainedModel, training: Training, *, total: int) -> None:
        """Nothing: prefixes are trained as they are."""

    def merge(self, model: PreTrainedModel) -> None:
        """Nothing: prefixes cannot be merged."""

    def export(self, model: PreTrainedModel, folder: Path) -> None:
        """Write the model and its prefixes."""
        saving.save_model(model, folder)


def _no_target(model: PreTrainedModel, seen: int, frozen: int) -> Refused:
    if seen:
        return Refused(
            "NoTargetModule",
            f"all attention layers are in the {frozen} layers of freeze.lowerLayers, which get no "
            "prefix; lower it",
            "spec.training.hyperparameters.freeze.lowerLayers",
        )
    return Refused(
        "UnsupportedModel",
        f"model_type {model.config.model_type!r} computes attention itself, where no prefix can be "
        "put; set training.method.type to PromptTuning, LoRA or Full",
        "spec.training.method.type",
    )
