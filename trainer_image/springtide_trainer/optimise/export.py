"""Converts a model to ONNX for rows without padding, and checks the result against the model.

A trace may keep a length or a branch of its example, so the check uses other lengths and tokens.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from springtide_trainer.artifact.onnx_model import OnnxModel
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedModel

OPSET = 17
MAX_BYTES = 1_900_000_000
"""Maximum bytes of the FP32 weights: an ONNX file has at most 2 GiB."""
TOLERANCE = 1e-3
"""Maximum difference of a logit, relative to the largest one if that is above 1."""
_TRACED = 1024
"""Tokens of the traced row, if maxLength is not less: a model with local attention has it in its
trace only if the row is longer than the window."""
_CHECKED = (1, 2, 3, 8, 31, 64, 200)
_FIELD = "spec.serving.optimise.quantization"


class _Logits(nn.Module):
    """The model as a function of its inputs, in the order of their names."""

    def __init__(self, model: PreTrainedModel, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: Tensor) -> Any:
        return self.model(**dict(zip(self.names, inputs, strict=True))).logits


def export(model: PreTrainedModel, names: Sequence[str], path: Path, *, max_length: int) -> None:
    """Write a model in FP32 to an ONNX file with inputs int64 [1, tokens] and output `logits`.

    The TorchScript exporter is used: on MiniLM it needs 2 s and 0 MB of further packages, the
    exporter of `torch.export` 9 s, and its graph is slower. Both have the logits of PyTorch.

    Args:
        model: The model. Set to evaluation mode, and left in it.
        names: Names of its inputs, without `attention_mask`.
        path: The file.
        max_length: Maximum number of tokens of a row.

    Raises:
        Refused: the model cannot be converted, or the converted one has other logits.
    """
    size = sum(each.numel() * each.element_size() for each in model.parameters())
    if size > MAX_BYTES:
        raise _impossible(
            model, f"it has {size / 1e6:,.0f} MB of weights, the limit is {MAX_BYTES / 1e6:,.0f} MB"
        )
    # The exporter restores the mode of the module that it is given: without eval() here, it would
    # leave the model inside in training mode, with dropout in the logits that are compared below.
    traced = _Logits(model, names).eval()
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # deprecation, and each branch that is traced
            torch.onnx.export(
                traced,
                tuple(_example(model, names, min(_TRACED, max_length))),
                path,
                input_names=list(names),
                output_names=["logits"],
                dynamic_axes={name: {1: "tokens"} for name in names},
                opset_version=OPSET,
                dynamo=False,
            )
    except Exception as failed:  # each architecture fails in its own way
        raise _impossible(model, f"the export to ONNX failed: {_first_line(failed)}") from failed
    _check(model, names, path, max_length)


def _check(model: PreTrainedModel, names: Sequence[str], path: Path, max_length: int) -> None:
    """Compare the logits of both on rows of several lengths.

    Raises:
        Refused: they differ.
    """
    try:
        converted = OnnxModel(path)
    except Exception as failed:  # ONNX Runtime has no common type of its errors
        raise _impossible(model, f"ONNX Runtime: {_first_line(failed)}") from failed
    for length in sorted({*(n for n in _CHECKED if n < max_length), max_length}):
        row = dict(zip(names, _example(model, names, length), strict=True))
        with torch.inference_mode():
            expected = model(**row).logits
        try:
            found = converted(attention_mask=torch.ones(1, length), **row).logits
        except Exception as failed:
            what = f"ONNX Runtime on a row of {length} tokens: {_first_line(failed)}"
            raise _impossible(model, what) from failed
        apart = float((found - expected).abs().max())
        if not apart <= TOLERANCE * max(1.0, float(expected.abs().max())):
            what = f"its logits of a row of {length} tokens differ by {apart:.3g} after the export"
            raise _impossible(model, what)


def _example(model: PreTrainedModel, names: Sequence[str], length: int) -> list[Tensor]:
    """Return one row of this length, int64 [1, tokens] for each input."""
    rng = torch.Generator().manual_seed(length)
    kinds = int(getattr(model.config, "type_vocab_size", None) or 1)
    limits = {"input_ids": model.config.vocab_size, "token_type_ids": kinds}
    return [torch.randint(limits.get(name, 1), (1, length), generator=rng) for name in names]


def _impossible(model: PreTrainedModel, why: str) -> Refused:
    kind = type(model).__name__
    message = f"{kind} cannot be served as Int8Dynamic: {why}; remove serving.optimise"
    return Refused("OptimiseNotPossible", f"{message}, or use another model", _FIELD)


def _first_line(failed: Exception) -> str:
    return next(iter(str(failed).strip().splitlines()), type(failed).__name__)[:300]
