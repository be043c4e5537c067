"""What tasks share whose loss is the likelihood of tokens: a row is of no class.

PyTorch is imported where it is used, because probes do not need it.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pyarrow as pa

from springtide_trainer.tasks.task import Classes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from springtide_trainer.tasks.metrics.statistic import Array, EncodedRows
    from springtide_trainer.tasks.task import Batch, TaskSpec


class PredictedTokens:
    """A task of predicting tokens of a row. `row` is what a count calls a row."""

    row: str
    problem_type = None
    label_type = pa.string()
    group_metrics = ()
    grouping = None

    def count(self, column: pa.ChunkedArray) -> Counter[str]:
        """Count the rows, which are all of one kind."""
        return Counter({self.row: len(column)} if len(column) else {})

    def shortage(self, counts: Counter[str]) -> str | None:
        """Nothing is short where there is a row."""
        return None

    def positives(self, counts: Counter[str]) -> int:
        """Count all rows: none is the positive one."""
        return counts.total()

    def classes(self, column: pa.ChunkedArray) -> Classes:
        """A row is of no class."""
        return Classes([], np.empty(0, np.int64), np.empty(0, np.int64))

    def encode(self, column: pa.ChunkedArray, where: str) -> Array:
        """Return float64 [rows, 0]: what is known of a row is known of its tokens alone.

        `Tokens.sums` counts them in training, `evaluation.predicted_tokens` describes them.
        """
        return np.empty((len(column), 0))

    def adopt(self, model: PreTrainedModel, source: Path) -> Self:
        """Take over a model as it is."""
        return self

    def continued(self, parent: TaskSpec, labels: Array) -> Self:
        """Nothing is fixed for a lineage but the tokenizer."""
        return self

    def extend(self, model: PreTrainedModel, seed: int) -> None:
        """Nothing: the outputs are the tokens of the tokenizer, which does not change."""

    def collate(self, labels: Array) -> Tensor:
        """Return the labels as they are. The loss reads the tokens."""
        import torch

        return torch.from_numpy(labels)

    def objective(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a batch."""
        return self.loss_of(model(**batch.inputs).logits, batch)

    def loss_of(self, logits: Tensor, batch: Batch) -> Tensor:
        """The loss of each predicted token, multiplied by the weight of its row."""
        return (logits[:, 0] * batch.weights).sum()

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
