"""Parts of a model that plain transformers does not know: bottlenecks, a prompt, or prefixes.

They cannot be merged into its weights. Plain transformers would load a model without them and
without an error, so its weights have a name that only this code asks for.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from springtide_trainer.tasks import bottleneck, prefix, prompt
from springtide_trainer.tasks.loading import load_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedModel

VARIANT = "adapted"
"""The variant of the weights, as transformers calls it: `model.adapted.safetensors`."""


@dataclass(frozen=True)
class Kind:
    """A kind of parts.

    Attributes:
        name: Name of its two files, without the suffix.
        module: Class of a part.
        settings: Returns what defines the parts of a model beside their weights, as JSON.
        attach: Gives a model without parts those of the settings.
    """

    name: str
    module: type[nn.Module]
    settings: Callable[[PreTrainedModel], dict[str, Any]]
    attach: Callable[[PreTrainedModel, dict[str, Any]], None]

    def weights(self, model: nn.Module) -> dict[str, Tensor]:
        """Return the weights of the parts of a model by their names in it."""
        return {
            f"{path}.{name}": weight
            for path, module in model.named_modules()
            if isinstance(module, self.module)
            for name, weight in module.named_parameters()
        }


def _attach_bottlenecks(model: PreTrainedModel, settings: dict[str, Any]) -> None:
    for path, width in settings["widths"].items():
        bottleneck.attach(model.get_submodule(path), width)


def _prompt_settings(model: PreTrainedModel) -> dict[str, Any]:
    held = prompt.prompt_of(model)
    assert held is not None
    return {"tokens": held.tokens, "place": held.place}


def _attach_prompt(model: PreTrainedModel, settings: dict[str, Any]) -> None:
    prompt.attach(model, settings["tokens"], settings["place"])


def _attach_prefixes(model: PreTrainedModel, settings: dict[str, Any]) -> None:
    for path, (heads, tokens, size) in settings["shapes"].items():
        prefix.attach(model, path, (heads, tokens, size))


KINDS = (
    Kind(
        "bottlenecks",
        bottleneck.Bottleneck,
        lambda model: {
            "widths": {path: each.width for path, each in bottleneck.bottlenecks(model).items()}
        },
        _attach_bottlenecks,
    ),
    Kind("prompt", prompt.Prompt, _prompt_settings, _attach_prompt),
    Kind(
        "prefixes",
        prefix.Prefix,
        lambda model: {
            "shapes": {path: list(each.keys.shape) for path, each in prefix.prefixes(model).items()}
        },
        _attach_prefixes,
    ),
)
SETTINGS = tuple(f"{kind.name}.json" for kind in KINDS)


def kind_of(model: nn.Module) -> Kind | None:
    """Return the kind of the parts that a model has; None: it has none."""
    return next((kind for kind in KINDS if kind.weights(model)), None)


def load(auto: Any, folder: Path, **options: Any) -> Any:
    """Load a model with its parts, as `load_model` does.

    Args:
        auto: A class of transformers, such as AutoModelForCausalLM.
        folder: A verified folder, with or without parts.
        options: Arguments of `from_pretrained`, such as fields of the model's configuration.

    Returns:
        The model with its parts; with `output_loading_info=True` also the report of missing
        weights.
    """
    # A folder of a user may have a file prompt.json of another meaning.
    kind = next((kind for kind in KINDS if (folder / f"{kind.name}.safetensors").is_file()), None)
    loaded = load_model(auto, folder, variant=VARIANT if kind else None, **options)
    if kind:
        _restore(loaded, kind, folder)
    return loaded


def _restore(model: PreTrainedModel, kind: Kind, folder: Path) -> None:
    """Attach the parts of a folder to its model, in place."""
    with torch.random.fork_rng(devices=[]):
        kind.attach(model, json.loads((folder / f"{kind.name}.json").read_bytes()))
    weights, held = kind.weights(model), load_file(folder / f"{kind.name}.safetensors")
    with torch.no_grad():
        for name in weights.keys() | held.keys():
            weights[name].copy_(held[name])


def save(model: PreTrainedModel, kind: Kind, folder: Path) -> None:
    """Write the weights of a model with parts, and its configuration."""
    own = kind.weights(model)
    rest = {name: weight for name, weight in model.state_dict().items() if name not in own}
    model.save_pretrained(folder, state_dict=rest, variant=VARIANT)
    tensors = {name: weight.detach().contiguous() for name, weight in own.items()}
    save_file(tensors, folder / f"{kind.name}.safetensors", metadata={"format": "pt"})
    text = json.dumps(kind.settings(model), sort_keys=True, indent=1)
    (folder / f"{kind.name}.json").write_text(text + "\n", encoding="utf-8")
