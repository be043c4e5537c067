"""A model in ONNX format, scored by ONNX Runtime on the CPU.

Dynamic quantization takes the scale of an activation from the whole input. Rows are therefore
scored one by one, without padding: the scores of a row do not depend on the other rows of a batch,
and those of the server equal those of the evaluation.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

ONNX_MODEL = "model.onnx"


@dataclass(frozen=True)
class Output:
    """The output of a forward pass."""

    logits: Tensor


class OnnxModel:
    """Takes a padded batch like the model that it was made from.

    Each thread scores one row at a time. There are as many threads as PyTorch would use, which is
    OMP_NUM_THREADS, if it is set.
    """

    device = torch.device("cpu")

    def __init__(self, path: Path) -> None:
        # Imported here, because only models with an optimized form need it.
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3  # errors
        self._session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        # A model may ignore an input of its tokenizer, such as DeBERTa the type of a token.
        self._inputs = [each.name for each in self._session.get_inputs()]
        self._threads = ThreadPoolExecutor(torch.get_num_threads(), "onnx")

    def train(self, mode: bool = True) -> OnnxModel:
        """Do nothing: the model has no dropout."""
        return self

    def __call__(self, **inputs: Tensor) -> Output:
        """Score rows.

        Args:
            inputs: int64 [rows, tokens] of each input of the model, and `attention_mask`.

        Returns:
            The logits: float32 [rows, outputs].
        """
        mask = inputs.pop("attention_mask").numpy().astype(bool)
        columns = {name: inputs[name].numpy() for name in self._inputs}
        rows = (
            {name: values[row][inside] for name, values in columns.items()}
            for row, inside in enumerate(mask)
        )
        return Output(torch.from_numpy(np.concatenate([*self._threads.map(self._score, rows)])))

    def _score(self, row: dict[str, NDArray[np.int64]]) -> Any:
        """Score one row: float32 [1, outputs]."""
        return self._session.run(None, {name: values[None] for name, values in row.items()})[0]
