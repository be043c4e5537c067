"""The ways of updating a model that are compared: each changes the spec of the first one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

STORED = 10
"""Rows of each class in the replay buffer, unless an option says otherwise."""


@dataclass(frozen=True)
class Option:
    """A way of updating.

    Attributes:
        training: What it has in spec.training, in addition to what all have.
        model: What it has in spec.model.
        stored: Rows of each class in the replay buffer; 0: no replay.
        hidden: Share of the rows whose labels are hidden.
        rate: Learning rate; empty: that of the run.
        against: The option that it is compared with.
    """

    name: str
    training: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    stored: int = STORED
    hidden: float = 0.0
    rate: str = ""
    against: str = "Full"


def _method(name: str, rate: str) -> Option:
    key = {"LoRA": "lora", "AdaLoRA": "adaLora"}.get(name, name[:1].lower() + name[1:])
    return Option(f"{name}, {rate}", {"method": {"type": name, key: {}}}, rate=rate)


def _robust(name: str, **changes: Any) -> Option:
    return Option(name, {"robustness": changes})


def _kept(name: str, stored: int = 0, **changes: Any) -> Option:
    against = "Full" if stored else "no replay"
    return Option(name, {"retention": changes}, stored=stored, against=against)


DISTILLED = {"distillation": {}}

OPTIONS = {
    option.name: option
    for option in (
        Option("Full"),
        _method("LoRA", "5e-4"),
        _method("LoRA", "2e-3"),
        Option(
            "LoRA on a base in 4 bits, 2e-3",
            {"method": {"type": "LoRA", "lora": {"quantization": "NF4"}}},
            rate="2e-3",
        ),
        _method("AdaLoRA", "1e-3"),
        _method("AdaLoRA", "4e-3"),
        _method("Adapter", "5e-4"),
        _method("Adapter", "2e-3"),
        _method("PromptTuning", "5e-3"),
        _method("PromptTuning", "2e-2"),
        _method("PrefixTuning", "5e-3"),
        _method("PrefixTuning", "2e-2"),
        Option("lower half frozen", {"hyperparameters": {"freeze": {"lowerLayers": 3}}}),
        Option("layers 0, 2 and 4 of 6", model={"keepLayers": [0, 2, 4]}),
        Option("no replay", stored=0),
        Option("30 rows replayed", stored=30),
        _kept("distillation, no replay", **DISTILLED),
        _kept("distillation", STORED, **DISTILLED),
        _kept("EWC 100, no replay", ewc={"strength": "100"}),
        _kept("EWC 10000, no replay", ewc={"strength": "10000"}),
        _kept("EWC 100", STORED, ewc={"strength": "100"}),
        Option("class weights", model={"classification": {"classWeights": "Balanced"}}),
        Option("focal loss", model={"classification": {"loss": {"type": "Focal", "focal": {}}}}),
        _robust("ema 0.99", averaging={"ema": "0.99"}),
        _robust("last 20 steps", averaging={"lastK": 20}),
        _robust("adversarial 1", adversarial={"epsilon": "1"}),
        _robust("token dropout 0.1", augmentation={"tokenDropout": "0.1"}),
        _robust("word swap 0.1", augmentation={"wordSwap": "0.1"}),
        Option("half pruned", {"pruning": {"sparsity": "0.5"}}),
        Option("half labelled", hidden=0.5),
        Option(
            "half labelled, pseudo-labels",
            {"unlabelled": {"pseudoLabels": {}}},
            hidden=0.5,
            against="half labelled",
        ),
    )
}
"""By name. The first one is what most are compared with."""


def with_option(spec: dict[str, Any], option: Option, rate: str) -> dict[str, Any]:
    """Return the spec of an update that is trained with an option.

    Args:
        spec: What all options share.
        option: The option.
        rate: Learning rate of options that have none.
    """
    rates = {"training": {"hyperparameters": {"learningRate": option.rate or rate}}}
    changed = {"training": option.training, "model": option.model}
    return _merged(_merged(spec, changed), rates)


def _merged(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    made = dict(whole)
    for name, value in part.items():
        known = made.get(name)
        both = isinstance(known, dict) and isinstance(value, dict)
        made[name] = _merged(known, value) if both else value
    return made
