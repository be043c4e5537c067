"""Loads the weights of a folder, always the same way: from safetensors, in FP32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from pathlib import Path


def load_model(kind: Any, folder: Path, **options: Any) -> Any:
    """Load a model in FP32 from safetensors, without custom code or network access.

    Args:
        kind: A class of transformers that chooses the model, such as `AutoModel`.
        folder: A Hugging Face folder that has been checked.
        options: Arguments of `from_pretrained`, such as fields of the model's configuration.

    Returns:
        The model; with `output_loading_info=True` also the report of missing weights.
    """
    return kind.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=torch.float32,
        **options,
    )
