"""MaskedLM: an encoder learns the hidden tokens of texts, which need no label.

It adapts an encoder to new text. Its weights answer no requests: they are the initial model of
another task, which gives the encoder a head.

PyTorch and transformers are imported where they are used, because probes need neither.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from springtide_trainer.tasks.metrics import hidden_tokens, perplexity
from springtide_trainer.tasks.task import Classes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from springtide_trainer.tasks.metrics.statistic import Array, EncodedRows, Statistic
    from springtide_trainer.tasks.task import Batch, OutputTensor, TaskSpec

TEXT = "text"


@dataclass(frozen=True)
class MaskedLM:
    """The task of predicting hidden tokens of a text."""

    problem_type = None
    label_type = pa.string()
    metrics = ("perplexity", "masked_accuracy")
    group_metrics = ()
    grouping = None

    @staticmethod
    def of(spec: TaskSpec) -> MaskedLM:
        """Return the task, which has no options."""
        return MaskedLM()

    @property
    def outputs(self) -> list[str]:
        """Two numbers of a row, of its hidden tokens."""
        return ["negative_log_likelihood", "accuracy"]

    @property
    def width(self) -> int:
        """Two."""
        return 2

    def check(self, column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
        """Take the empty labels of frozen rows as they are."""
        return column

    def count(self, column: pa.ChunkedArray) -> Counter[str]:
        """Count the texts."""
        return Counter({TEXT: len(column)} if len(column) else {})

    def shortage(self, counts: Counter[str]) -> str | None:
        """Nothing is short where there is a row."""
        return None

    def positives(self, counts: Counter[str]) -> int:
        """Count all rows: none is the positive one."""
        return counts.total()

    def classes(self, column: pa.ChunkedArray) -> Classes:
        """A text is of no class."""
        return Classes([], np.empty(0, np.int64), np.empty(0, np.int64))

    def encode(self, column: pa.ChunkedArray, where: str) -> Array:
        """Return float64 [rows, 0]: what is known of a row is known of its tokens alone.

        `Tokens.sums` counts them in training, `evaluation.predicted_tokens` describes them.
        """
        return np.empty((len(column), 0))

    def load(self, folder: Path, **config: Any) -> PreTrainedModel:
        """Load an encoder with the head of a masked language model."""
        from springtide_trainer.tasks.language import masked_encoder

        model: PreTrainedModel = masked_encoder.load(folder, **config)
        return model

    def adopt(self, model: PreTrainedModel, source: Path) -> MaskedLM:
        """Take over an encoder as it is."""
        return self

    def continued(self, parent: TaskSpec, labels: Array) -> MaskedLM:
        """Nothing is fixed for a lineage but the tokenizer."""
        return self

    @property
    def kept(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def extend(self, model: PreTrainedModel, seed: int) -> None:
        """Nothing: the outputs are the tokens of the tokenizer, which does not change."""

    def collate(self, labels: Array) -> Tensor:
        """Return the labels as they are. The loss reads the hidden tokens."""
        import torch

        return torch.from_numpy(labels)

    def objective(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a batch."""
        return self.loss_of(model(**batch.inputs).logits, batch)

    def loss_of(self, logits: Tensor, batch: Batch) -> Tensor:
        """The loss of each hidden token, multiplied by the weight of its row."""
        return (logits[:, 0] * batch.weights).sum()

    def predict(self, logits: Tensor) -> Tensor:
        """Return mean negative log likelihood and accuracy of the hidden tokens: [rows, 2].

        Args:
            logits: float32 [rows, 3], sum, right ones and number of tokens (`masked_encoder.Sums`).
        """
        return logits[:, :2] / logits[:, 2:].clamp(min=1)

    def statistic(
        self, metric: str, rows: EncodedRows, predictions: Array, *, once: bool = False
    ) -> Statistic:
        """Prepare a metric; the first label of a row is the number of its hidden tokens."""
        if metric == "perplexity":
            return perplexity.statistic(rows, predictions)
        return hidden_tokens.accuracy(rows, predictions)

    def trivial_baseline(self, metric: str, rows: EncodedRows) -> float:
        """Return what the frequencies of tokens have, which ignore the text around."""
        if metric == "perplexity":
            return perplexity.of_frequencies(rows)
        return hidden_tokens.of_most_frequent(rows)

    def check_validation(self, metric: str, labels: Array) -> None:
        """The metric has a value for any rows."""

    def by_label(self, rows: EncodedRows, predictions: Array) -> list[dict[str, Any]]:
        """No label is predicted."""
        return []

    def over_incumbent(
        self, rows: EncodedRows, predictions: Array, incumbent: Sequence[str]
    ) -> tuple[Array, EncodedRows, Array]:
        """Keep all rows: every model has the same outputs."""
        return np.ones(len(rows.label), dtype=bool), rows, predictions

    @property
    def tensors(self) -> list[OutputTensor]:
        """None: the weights answer no requests."""
        return []
