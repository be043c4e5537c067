"""A hub, and models whose files need no PyTorch."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from trainer.hub.server import HubServer

from springtide_trainer.hub import download

if TYPE_CHECKING:
    from collections.abc import Iterator

WANTED = {
    "config.json": b'{"model_type": "bert"}',
    "tokenizer.json": b'{"model": {}}',
    "tokenizer_config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 64,
}
UNWANTED = {
    "README.md": b"# A model",
    "modeling_mine.py": b"raise SystemExit('code of the repository')",
    "pytorch_model.bin": b"\x80\x04pickle",
    "consolidated.safetensors": b"the same weights again",
    "onnx/model.onnx": b"graph",
    "other/model.safetensors": b"weights of something else",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that the environment names; failed requests are repeated at once."""
    server = HubServer()
    monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr(download, "WAITS", (0.0, 0.0))
    at_once = SimpleNamespace(sleep=lambda _: None)
    for module in ("file_download", "utils._http"):
        monkeypatch.setattr(f"huggingface_hub.{module}.time", at_once)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    # A pod's environment says so, before huggingface_hub reads it.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    yield server
    server.close()


def in_shards(count: int) -> dict[str, bytes]:
    """Files of a model whose weights are in several files."""
    names = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    index = {"weight_map": {f"weight.{number}": name for number, name in enumerate(names)}}
    files = {name: f"weights of {name}".encode() for name in names}
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    return {name: WANTED[name] for name in WANTED if name != "model.safetensors"} | files
