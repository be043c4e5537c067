"""Which hyperparameters are searched, and between which values."""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import optuna

    from springtide_api.update.training import Training

Kind = Literal["log", "fraction", "whole", "word"]
Value = float | int | str

PLACES: Mapping[str, tuple[Kind, tuple[str, ...]]] = {
    "learningRate": ("log", ("hyperparameters", "learningRate")),
    "weightDecay": ("fraction", ("hyperparameters", "weightDecay")),
    "warmup": ("fraction", ("hyperparameters", "warmup")),
    "dropout": ("fraction", ("hyperparameters", "dropout")),
    "epochs": ("whole", ("hyperparameters", "epochs")),
    "maxSteps": ("whole", ("hyperparameters", "maxSteps")),
    "batchSize": ("whole", ("hyperparameters", "batchSize")),
    "gradientAccumulation": ("whole", ("hyperparameters", "gradientAccumulation")),
    "schedule": ("word", ("hyperparameters", "schedule")),
    "optimizer": ("word", ("hyperparameters", "optimizer")),
    "rank": ("whole", ("method", "lora", "rank")),
    "width": ("whole", ("method", "adapter", "width")),
    "tokens": ("whole", ("method", "promptTuning", "tokens")),
}
"""Kind of each, and its path in `spec.training`."""
OF_METHODS = {
    ("rank", "AdaLoRA"): ("method", "adaLora", "rank"),
    ("tokens", "PrefixTuning"): ("method", "prefixTuning", "tokens"),
}
"""The path of a name that two methods have, with the second of them."""
AROUND = 10.0
"""By default learning rates from a tenth to ten times that of the recipe are tried."""


@dataclass(frozen=True)
class Dimension:
    """A hyperparameter and its values: between two bounds, or one of several.

    Attributes:
        name: Its name, a key of PLACES.
        bounds: The lowest and the highest value. None: `choices` has them all.
        choices: The values, if they are listed.
    """

    name: str
    bounds: tuple[float, float] | None = None
    choices: tuple[Value, ...] = ()

    @property
    def kind(self) -> Kind:
        """Return how its values are spread."""
        return PLACES[self.name][0]

    @property
    def corners(self) -> tuple[Value, ...]:
        """Return the values that are checked before anything is trained."""
        if self.bounds is None:
            return self.choices
        return tuple(self.rounded(each) for each in self.bounds)

    def suggest(self, trial: optuna.Trial) -> Value:
        """Return the value of a trial, as it will be written into the manifest."""
        if self.bounds is None:
            chosen = trial.suggest_categorical(self.name, self.choices)
            assert chosen is not None
            return chosen
        low, high = self.bounds
        if self.kind == "whole":
            return trial.suggest_int(self.name, int(low), int(high))
        return self.rounded(trial.suggest_float(self.name, low, high, log=self.kind == "log"))

    def rounded(self, value: float) -> Value:
        """Return a value with as many digits as are written: what was tried is what is found."""
        if self.kind == "whole":
            return int(value)
        return float(f"{value:.3g}") if self.kind == "log" else round(value, 4)

    def contains(self, value: Value) -> bool:
        """Return whether a value can be tried."""
        if self.bounds is None:
            return value in self.choices
        return not isinstance(value, str) and self.bounds[0] <= value <= self.bounds[1]

    def __str__(self) -> str:
        if self.bounds is None:
            return f"{self.name}={','.join(map(written, self.choices))}"
        return f"{self.name}={':'.join(map(written, self.corners))}"


def parse(text: str) -> Dimension:
    """Read `learningRate=1e-6:1e-4` or `batchSize=16,32`.

    Raises:
        ArgumentTypeError: it is neither, or names no hyperparameter that can be searched.
    """
    name, separator, values = text.partition("=")
    if name not in PLACES:
        known = ", ".join(PLACES)
        raise argparse.ArgumentTypeError(f"{name!r} cannot be searched; choose one of {known}")
    kind = PLACES[name][0]
    form = f"{text!r} is not {name}=A,B" + ("" if kind == "word" else f" or {name}=LOW:HIGH")
    low, colon, high = values.partition(":")
    try:
        if colon and kind != "word":
            bounds = _number(low, kind), _number(high, kind)
            if not bounds[0] < bounds[1]:
                message = f"{text!r}: {low} is not below {high}; swap them, or list the values"
                raise argparse.ArgumentTypeError(message)
            if kind == "log" and bounds[0] <= 0:
                message = (
                    f"{text!r}: {low} must be greater than 0, as orders of magnitude are tried"
                )
                raise argparse.ArgumentTypeError(message)
            return Dimension(name, bounds)
        listed = values.split(",") if separator else [""]
        choices = tuple(each if kind == "word" else _number(each, kind) for each in listed)
    except ValueError as wrong:
        raise argparse.ArgumentTypeError(form) from wrong
    if not all(map(str, choices)) or len(set(choices)) < len(choices):
        raise argparse.ArgumentTypeError(form)
    return Dimension(name, choices=choices)


def _number(text: str, kind: Kind) -> float | int:
    """Return a number.

    Raises:
        ValueError: it is none, or not a finite one.
    """
    value = int(text) if kind == "whole" else float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def default(training: Training) -> tuple[Dimension, ...]:
    """Return what is searched if the command names nothing.

    Args:
        training: The recipe's block, with its defaults filled in.
    """
    options = training.hyperparameters
    rate = float(training.learning_rate)
    found = [
        Dimension("learningRate", (rate / AROUND, min(1.0, rate * AROUND))),
        Dimension("warmup", (0.0, max(0.3, float(options.warmup)))),
        Dimension("weightDecay", (0.0, max(0.1, float(options.weight_decay)))),
    ]
    if options.max_steps is None:
        found.append(Dimension("epochs", (1, min(100, max(3, 2 * (options.epochs or 1))))))
    return tuple(found)


def current(dimension: Dimension, training: Training) -> Value:
    """Return the value of a recipe."""
    options, method = training.hyperparameters, training.method
    ranked, adapter = method.lora or method.ada_lora, method.adapter
    vectors = method.prompt_tuning or method.prefix_tuning
    found: dict[str, Any] = {
        "learningRate": float(training.learning_rate),
        "weightDecay": float(options.weight_decay),
        "warmup": float(options.warmup),
        "dropout": float(options.dropout),
        "epochs": options.epochs or 1,
        "maxSteps": options.max_steps or 0,
        "batchSize": options.batch_size,
        "gradientAccumulation": options.gradient_accumulation,
        "schedule": options.schedule,
        "optimizer": options.optimizer,
        "rank": ranked.rank if ranked else 0,
        "width": adapter.width if adapter else 0,
        "tokens": vectors.tokens if vectors else 0,
    }
    value: Value = found[dimension.name]
    return value


def changed(manifest: Mapping[str, Any], values: Mapping[str, Value]) -> dict[str, Any]:
    """Return a manifest with other values, in spec.training."""
    spec = dict(manifest["spec"])
    training = dict(spec.get("training", {}))
    for name, value in values.items():
        *path, last = _place(name, training)
        inner = training
        for key in path:
            inner[key] = dict(inner.get(key, {}))
            inner = inner[key]
        inner[last] = written(value) if isinstance(value, float) else value
    return {**manifest, "spec": {**spec, "training": training}}


def _place(name: str, training: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the path of a hyperparameter in `spec.training`."""
    method = training.get("method", {}).get("type", "")
    return OF_METHODS.get((name, method), PLACES[name][1])


def written(value: Value) -> str:
    """Return a value as the manifest has it: a float is a decimal in a string."""
    if not isinstance(value, float):
        return str(value)
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return text if float(text) == value else f"{value:.3g}"


def shown(values: Mapping[str, Value], dimensions: Sequence[Dimension]) -> str:
    """Return values as a line."""
    return ", ".join(f"{each.name} {written(values[each.name])}" for each in dimensions)
