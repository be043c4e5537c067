"""MaskedLM: an encoder learns the hidden tokens of texts, which need no label.

It adapts an encoder to new text. Its weights answer no requests: they are the initial model of
another task, which gives the encoder a head.

PyTorch and transformers are imported where they are used, because probes need neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from springtide_trainer.tasks.language.predicted_tokens import PredictedTokens
from springtide_trainer.tasks.metrics import hidden_tokens, perplexity

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow as pa
    from torch import Tensor
    from transformers import PreTrainedModel

    from springtide_trainer.tasks.metrics.statistic import Array, EncodedRows, Statistic
    from springtide_trainer.tasks.task import OutputTensor, TaskSpec

TEXT = "text"


@dataclass(frozen=True)
class MaskedLM(PredictedTokens):
    """The task of predicting hidden tokens of a text."""

    metrics = ("perplexity", "masked_accuracy")
    row = TEXT

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

    def load(self, folder: Path, **config: Any) -> PreTrainedModel:
        """Load an encoder with the head of a masked language model."""
        from springtide_trainer.tasks.language import masked_encoder

        model: PreTrainedModel = masked_encoder.load(folder, **config)
        return model

    @property
    def kept(self) -> dict[str, Any]:
        """Nothing."""
        return {}

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

    @property
    def tensors(self) -> list[OutputTensor]:
        """None: the weights answer no requests."""
        return []
