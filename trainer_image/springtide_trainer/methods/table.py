"""The methods by `training.method.type`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_trainer.methods.adalora import AdaLoRA
from springtide_trainer.methods.bottlenecks import Adapter
from springtide_trainer.methods.full import Full
from springtide_trainer.methods.lora import LoRA
from springtide_trainer.methods.prefix_tuning import PrefixTuning
from springtide_trainer.methods.prompt_tuning import PromptTuning

if TYPE_CHECKING:
    from springtide_trainer.methods.method import Method

METHODS: dict[str, Method] = {
    "Full": Full(),
    "LoRA": LoRA(),
    "AdaLoRA": AdaLoRA(),
    "Adapter": Adapter(),
    "PromptTuning": PromptTuning(),
    "PrefixTuning": PrefixTuning(),
}
