"""Writes the files of an artifact. Equal models give equal bytes."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from springtide_trainer.errors import Refused
from springtide_trainer.tasks import parts
from springtide_trainer.tasks.towers import DOCUMENT_WEIGHTS, QUERY_WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

GENERATION = "generation_config.json"
_VOLATILE = frozenset({"transformers_version", "_name_or_path", "name_or_path"})
_OF_THE_CALL = frozenset({"is_local", "local_files_only"})
"""Settings that record how a tokenizer was loaded."""


def save_model(model: PreTrainedModel, folder: Path) -> None:
    """Write weights and configuration; of a decoder also how it generates."""
    if (kind := parts.kind_of(model)) is not None:
        parts.save(model, kind, folder)
    else:
        model.save_pretrained(folder)
    _rewrite(folder / "config.json", _VOLATILE)
    if (folder / GENERATION).exists():
        _rewrite(folder / GENERATION, _VOLATILE)


def write_documents(source: Path, folder: Path) -> None:
    """Write the model of documents of a bi-encoder.

    Args:
        source: The parent, whose model of documents stays as it is; or the artifact, which has one
            model for both.
        folder: The artifact, with its weights.

    Raises:
        Refused: the weights are in several files.
    """
    name = QUERY_WEIGHTS if source == folder else DOCUMENT_WEIGHTS
    if not (source / name).is_file():
        raise Refused(
            "UnsupportedModel",
            "the weights are too large for one file, and task Embedding needs them in one; use a "
            "smaller model",
            "spec.model.initial.uri",
        )
    shutil.copyfile(source / name, folder / DOCUMENT_WEIGHTS)


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Write a fast tokenizer without truncation and padding, which `preprocess.json` defines.

    The template of a chat model stays in `tokenizer_config.json`: an artifact has no file of it.
    """
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    _rewrite(folder / "tokenizer_config.json", _VOLATILE | _OF_THE_CALL)


def copy_tokenizer(source: Path, folder: Path) -> None:
    """Copy the parent's tokenizer unchanged: all generations of an update have the same one."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in tokenizer_files(source):
        shutil.copyfile(path, folder / path.name)


def tokenizer_files(folder: Path) -> list[Path]:
    """List the files of an artifact that its tokenizer may read, by name."""
    return [
        path
        for path in sorted(folder.iterdir())
        if path.suffix not in {".safetensors", ".onnx"} and path.name not in _NOT_TOKENIZER
    ]


_NOT_TOKENIZER = frozenset(
    {
        *("config.json", GENERATION, "preprocess.json", "springtide-manifest.json"),
        *("model.safetensors.index.json", f"model.safetensors.index.{parts.VARIANT}.json"),
        *parts.SETTINGS,
    }
)


def _rewrite(path: Path, without: frozenset[str]) -> None:
    """Write settings sorted, without those that depend on the machine."""
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    kept = {name: value for name, value in settings.items() if name not in without}
    text = json.dumps(kept, ensure_ascii=False, sort_keys=True, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
