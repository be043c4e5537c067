"""An adapter as files: in the format of peft, with the digest of the weights that it belongs to.

A training with adapters does not change the base. So base and adapter are the exact state from
which a training continues; the merged weights have it only up to rounding.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from springtide_api.contract import CommittedAdapter
from springtide_trainer.artifact import manifest
from springtide_trainer.errors import Refused
from springtide_trainer.storage import local_path
from springtide_trainer.tasks.loading import load_model

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from springtide_api.contract import AdapterInput
    from springtide_trainer.storage import Home

NAME = "default"
"""Name of the adapter in the model."""
WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PREFIX = "base_model.model."
"""What peft writes before the path of a module."""
BASE = "base_model_name_or_path"
"""The setting that has the digest of the base."""
OPTIONS = ("r", "lora_alpha", "use_rslora", "use_dora", "target_modules")
"""Settings of an adapter that cannot change while it is continued."""
_KEPT = (*OPTIONS, "peft_type", "task_type", "lora_dropout", "bias", "fan_in_fan_out")
_FRESH = (
    "set training.method.lora.continuation to Fresh, without rebaseEvery, until the next"
    " generation is live"
)
_FIELD = "spec.training.method.lora.continuation"


@dataclass(frozen=True)
class Continued:
    """An adapter whose training continues, verified.

    Attributes:
        folder: Its files.
        base: Folder of the weights that it belongs to.
    """

    folder: Path
    base: Path

    @staticmethod
    def of(given: AdapterInput | None) -> Continued | None:
        """Verify an adapter and its base.

        Raises:
            Refused: DigestMismatch if files are missing or damaged, AdapterMismatch if the adapter
                belongs to other weights.
        """
        if given is None:
            return None
        made = Continued(local_path(given.uri), local_path(given.base.uri))
        _verify(made.folder, given.digest)
        if (found := made.settings().get(BASE)) != given.base.digest:
            raise _mismatch(
                f"{made.folder}: the adapter belongs to the weights {found}, not to "
                f"{given.base.digest}"
            )
        _verify(made.base, given.base.digest)
        return made

    def settings(self) -> dict[str, Any]:
        """Read its settings.

        Raises:
            Refused: there are none.
        """
        try:
            settings = json.loads((self.folder / CONFIG).read_bytes())
        except (FileNotFoundError, ValueError):
            settings = None
        if not isinstance(settings, dict):
            raise _mismatch(f"{self.folder / CONFIG} has no settings of an adapter")
        return settings

    def restore_base(self, targets: Mapping[str, nn.Module]) -> None:
        """Set the weights of the target modules to those of the base.

        Args:
            targets: Linear layers by their path in the base model.

        Raises:
            Refused: the base has no such layers.
        """
        with torch.random.fork_rng(devices=[]):  # a pooler that the base lacks is initialized
            base: PreTrainedModel = load_model(AutoModel, self.base)
        known = dict(base.named_parameters())
        with torch.no_grad():
            for path, module in targets.items():
                for name, weight in module.named_parameters(recurse=False):
                    found = known.get(f"{path}.{name}")
                    if found is None or found.shape != weight.shape:
                        raise _mismatch(f"{self.base} has no weights for {path}.{name}")
                    weight.copy_(found)

    def load(self, base: nn.Module) -> None:
        """Set the adapters of a model to this one.

        Args:
            base: The base model, with new adapters injected.

        Raises:
            Refused: this adapter has other options or target modules.
        """
        now, was = _settings(base), self.settings()
        for name in OPTIONS:
            if now[name] != was.get(name):
                raise _mismatch(
                    f"{self.folder}: {name} is {was.get(name)}, the recipe has {now[name]}"
                )
        try:
            held, weights = load_file(self.folder / WEIGHTS), _tensors(base)
        except (FileNotFoundError, SafetensorError) as wrong:
            raise _mismatch(f"{self.folder / WEIGHTS} cannot be read: {wrong}") from wrong
        shapes = [{name: each.shape for name, each in of.items()} for of in (held, weights)]
        if shapes[0] != shapes[1]:
            raise _mismatch(f"{self.folder}: its weights are not those of its settings")
        for name, weight in weights.items():
            weight.copy_(held[name])


@dataclass(frozen=True)
class Written:
    """The files of an adapter, not committed yet.

    Attributes:
        folder: The files.
        base: Digest of the weights that it belongs to.
        continued: Whether the training continued another adapter.
    """

    folder: Path
    base: str
    continued: bool

    def commit(self, home: Home) -> CommittedAdapter:
        """Move the files to the artifacts, under the digest of their content."""
        made = manifest.commit(self.folder, home)
        return CommittedAdapter(
            uri=made.uri,
            digest=made.digest,
            bytes=made.bytes,
            base=self.base,
            continued=self.continued,
        )


def write(model: PreTrainedModel, folder: Path, *, base: str, continued: bool) -> Written:
    """Write the adapter of a model, before it is merged. Equal adapters give equal bytes.

    Args:
        model: A trained model, on the CPU.
        folder: A folder to create, on the file system of the storage.
        base: Digest of the weights that the adapter belongs to.
        continued: Whether the training continued another adapter.
    """
    folder.mkdir(parents=True)
    tensors = {
        name: each.detach().contiguous() for name, each in _tensors(model.base_model).items()
    }
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    settings = _settings(model.base_model) | {BASE: base, "inference_mode": True}
    text = json.dumps(settings, sort_keys=True, indent=1)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    return Written(folder, base, continued)


def _tensors(base: Any) -> dict[str, Tensor]:
    """Return the weights of the adapters, not copied, under the names that peft writes."""
    from peft import get_peft_model_state_dict

    state: dict[str, Tensor] = get_peft_model_state_dict(
        base, adapter_name=NAME, save_embedding_layers=False
    )
    return {f"{PREFIX}{name}": weight for name, weight in state.items()}


def _settings(base: Any) -> dict[str, Any]:
    """Return the settings of the adapters, without those that depend on the version of peft."""
    known = base.peft_config[NAME].to_dict()
    return {name: known[name] for name in _KEPT}


def _verify(folder: Path, digest: str) -> None:
    """Verify files, and say what to do where there is no copy of them."""
    try:
        manifest.verify(folder, digest)
    except Refused as damaged:
        failure = damaged.failure
        raise Refused(failure.reason, f"{failure.message}, or {_FRESH}", _FIELD) from damaged


def _mismatch(what: str) -> Refused:
    return Refused("AdapterMismatch", f"{what}; {_FRESH}, or restore the folder", _FIELD)
