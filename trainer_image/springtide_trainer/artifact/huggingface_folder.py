"""Checks a user's Hugging Face folder before any library opens a file in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PICKLES = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"})
TOKENIZERS = frozenset(
    {
        "tokenizer.json",
        "vocab.txt",
        "vocab.json",
        "spiece.model",
        "sentencepiece.bpe.model",
        "tokenizer.model",
    }
)
SETTINGS_LIMIT = 1 << 20
"""Maximum bytes of config.json and tokenizer_config.json."""
HEADER_LIMIT = 100_000_000
"""Maximum bytes of a safetensors header, as in the safetensors library."""
INDEX = "model.safetensors.index.json"
ADAPTED = "model.adapted*.safetensors"
"""Weights of an artifact whose model has parts that plain transformers does not know."""


def inspect(folder: Path, field: str) -> None:
    """Check that a folder is a Hugging Face model that loads without running code from it.

    Args:
        folder: The folder.
        field: Field of the spec that names the folder, for messages.

    Raises:
        Refused: the folder is missing or incomplete, has only pickled weights, refers to custom
            code, or links to a file outside it.
    """
    if not folder.is_dir():
        message = f"{folder} is not a folder; check the path and that the claim is mounted there"
        raise Refused("MissingModel", message, field)
    _check_links(folder, field)
    for name in ("config.json", "tokenizer_config.json"):
        if (folder / name).exists() or name == "config.json":
            _check_settings(folder / name, field)
    for path in _weights(folder, field):
        _check_header(path, field)
    if not any((folder / name).is_file() for name in TOKENIZERS):
        message = f"{folder} has no tokenizer; add one of {', '.join(sorted(TOKENIZERS))}"
        raise Refused("MissingTokenizer", message, field)


def _check_links(folder: Path, field: str) -> None:
    inside = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            message = f"{path} is a link to outside the folder; replace it by a copy of the file"
            raise Refused("UnsafeArtifact", message, field)


def _check_settings(path: Path, field: str) -> None:
    settings = _read_json(path, SETTINGS_LIMIT, field)
    if any(key == "auto_map" for key in _keys(settings)):
        message = (
            f"{path} refers to custom code (auto_map); use a model of the transformers library"
        )
        raise Refused("UnsafeArtifact", message, field)
    if "quantization_config" in settings:
        message = f"{path}: quantized weights cannot be trained; use the original model"
        raise Refused("UnsupportedModel", message, field)


def _weights(folder: Path, field: str) -> list[Path]:
    """Return the files of the weights: one file, or the shards of an index."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if (folder / INDEX).is_file():
        index = _read_json(folder / INDEX, HEADER_LIMIT, field).get("weight_map")
        names = sorted({str(name) for name in index.values()}) if isinstance(index, dict) else []
        wrong = [name for name in names if "/" in name or not (folder / name).is_file()]
        if names and not wrong:
            return [folder / name for name in names]
        message = f"{folder / INDEX} names missing shards: {wrong[:3]}; copy them to the folder"
        raise Refused("InvalidModel", message, field)
    if pickled := sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES):
        message = (
            f"{folder} has its weights only in {pickled[0]}, a pickle file, which can run code; "
            "convert it to model.safetensors"
        )
        raise Refused("UnsafeArtifact", message, field)
    if any(folder.glob(ADAPTED)):
        message = (
            f"{folder} has bottleneck adapters, a prompt or prefixes, and no update begins with "
            "them; use a generation from before them, or the initial model of its update"
        )
        raise Refused("UnsupportedModel", message, field)
    message = f"{folder} has no model.safetensors; save the weights in this format"
    raise Refused("MissingModel", message, field)


def _check_header(path: Path, field: str) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(HEADER_LIMIT, size - 8):
        message = f"{path}: invalid header of {length:,} bytes in a file of {size:,}; copy it again"
        raise Refused("UnsafeArtifact", message, field)


def _read_json(path: Path, limit: int, field: str) -> dict[str, Any]:
    if not path.is_file():
        raise Refused("MissingModel", f"{path} does not exist; copy the whole folder", field)
    if path.stat().st_size > limit:
        message = f"{path} is larger than {limit:,} bytes; copy it again"
        raise Refused("UnsafeArtifact", message, field)
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as wrong:
        message = f"{path} is not valid JSON ({wrong}); copy it again"
        raise Refused("InvalidModel", message, field) from wrong
    if not isinstance(value, dict):
        raise Refused("InvalidModel", f"{path} is not a JSON object; copy it again", field)
    return value


def _keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield key
            yield from _keys(part)
    elif isinstance(value, list):
        for part in value:
            yield from _keys(part)
