"""Scores rows as the evaluation did: the same texts, truncation and form of the model.

`preprocess.json` says how columns become text. The model is `model.safetensors` in FP32 or, with
`serving.optimise`, `model.onnx` with weights of 8-bit integers.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from artifact import Refused
from transformers import AutoTokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

PASS_ROWS = 8
"""Rows of one forward pass in FP32."""
PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


class Form(Protocol):
    """A form of a model."""

    def logits(self, tokenizer: Any, rows: Mapping[str, Any]) -> NDArray[np.float32]:
        """Return [rows, labels] for what the tokenizer made of the rows."""


class Columns:
    """How columns become texts.

    Args:
        how: the content of `preprocess.json`.
    """

    def __init__(self, how: Mapping[str, Any]) -> None:
        self._features: list[str] = how.get("features", [])
        self._template: str | None = how.get("template")
        texts = ["text", "text_pair"] if "textPair" in how else ["text"]
        self.names = self._features or texts

    def texts(self, columns: Sequence[Sequence[str]]) -> tuple[list[str], list[str] | None]:
        """Return the text of each row, and the second texts of pairs.

        Args:
            columns: the values of each of `names`.
        """
        if self._features:
            return [self._rendered(row) for row in zip(*columns, strict=True)], None
        text, *pair = columns
        return list(text), list(pair[0]) if pair else None

    def _rendered(self, row: Sequence[str]) -> str:
        """Fill the template; a doubled brace is a brace."""
        value = dict(zip(self._features, row, strict=True))
        if self._template is None:
            return "; ".join(f"{name}: {text}" for name, text in value.items())
        return PIECE.sub(lambda found: value[found[1]] if found[1] else found[0][0], self._template)


class Classifier:
    """A model of task Classification whose labels exclude each other.

    Args:
        folder: a verified artifact.

    Raises:
        Refused: the model has another task.
    """

    def __init__(self, folder: Path) -> None:
        how = json.loads((folder / "preprocess.json").read_text(encoding="utf-8"))
        if how.get("task", "Classification") != "Classification" or "classification" in how:
            raise Refused("this server answers for task Classification without multiLabel alone")
        self.columns = Columns(how)
        self.labels: list[str] = how["labels"]
        self._max_length: int = how["maxLength"]
        options = {"local_files_only": True, "trust_remote_code": False}
        self._tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        quantized = folder / "model.onnx"
        self._form: Form = Int8(quantized) if quantized.exists() else Full(folder, options)

    def probabilities(self, columns: Sequence[Sequence[str]]) -> NDArray[np.float32]:
        """Score rows: [rows, labels].

        Args:
            columns: the values of each of `columns.names`.
        """
        texts, pairs = self.columns.texts(columns)
        rows = self._tokenizer(texts, pairs, truncation=True, max_length=self._max_length)
        logits = self._form.logits(self._tokenizer, rows)
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        return exponents / exponents.sum(axis=1, keepdims=True)


class Full:
    """The model in FP32, on PyTorch."""

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        import torch
        from transformers import AutoModelForSequenceClassification

        self._inference_mode = torch.inference_mode
        self._model = AutoModelForSequenceClassification.from_pretrained(
            folder, use_safetensors=True, dtype=torch.float32, **options
        ).eval()

    def logits(self, tokenizer: Any, rows: Mapping[str, Any]) -> NDArray[np.float32]:
        """Score a few rows at a time, padded to the longest of them."""
        made = []
        with self._inference_mode():
            for start in range(0, len(rows["input_ids"]), PASS_ROWS):
                few = {name: values[start : start + PASS_ROWS] for name, values in rows.items()}
                batch = tokenizer.pad(few, return_tensors="pt")
                made.append(self._model(**batch).logits.numpy())
        return np.concatenate(made)


class Int8:
    """The model with weights of 8-bit integers, on ONNX Runtime.

    Activations are quantized by the range of a pass, so a row is scored alone and not padded, as
    in the evaluation.
    """

    def __init__(self, file: Path) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        self._inputs = [each.name for each in self._session.get_inputs()]

    def logits(self, tokenizer: Any, rows: Mapping[str, Any]) -> NDArray[np.float32]:
        """Score the rows one by one."""
        made = []
        for number in range(len(rows["input_ids"])):
            row = {name: np.array([rows[name][number]], np.int64) for name in self._inputs}
            made.append(self._session.run(None, row)[0])
        return np.concatenate(made)
