"""CausalLM: a decoder learns the responses of a dialogue, and answers with text.

A row is a prompt and its response, which is the label. Only the tokens of the response are learnt
and evaluated, each given all tokens before it; those of the prompt are read.

PyTorch and transformers are imported where they are used, because probes need neither.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from springtide_api.update.task import CausalLMOptions
from springtide_trainer.errors import Refused
from springtide_trainer.tasks.metrics import perplexity
from springtide_trainer.tasks.task import Classes, OutputTensor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor, nn
    from transformers import PreTrainedModel

    from springtide_trainer.tasks.metrics.statistic import Array, EncodedRows, Statistic
    from springtide_trainer.tasks.task import Batch, TaskSpec

COLUMN = "data.source.columns.label"
RESPONSE = "response"
"""The tensor of the server with generated texts, or of a request with given ones."""
LIKELIHOOD = "negative_log_likelihood"
"""The prediction of a row: the mean over the tokens of its response."""


@dataclass(frozen=True)
class CausalLM:
    """The task of continuing a prompt with its response."""

    options: CausalLMOptions
    problem_type = None
    label_type = pa.string()
    metrics = ("perplexity",)
    group_metrics = ()
    grouping = None

    @staticmethod
    def of(spec: TaskSpec) -> CausalLM:
        """Return the task of a spec."""
        return CausalLM(spec.causal_lm or CausalLMOptions())

    @property
    def outputs(self) -> list[str]:
        """One number."""
        return [LIKELIHOOD]

    @property
    def width(self) -> int:
        """One."""
        return 1

    def check(self, column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
        """Check that each row has a response, which is more than spaces."""
        blank = pc.equal(pc.utf8_trim_whitespace(column), "")
        missing = pc.sum(pc.or_kleene(pc.is_null(column), blank)).as_py()
        if missing:
            raise Refused(
                "MissingLabel",
                f"{missing:,} of {len(column):,} {where} have no response (null, empty or spaces); "
                "fix or remove them",
                COLUMN,
            )
        return column

    def count(self, column: pa.ChunkedArray) -> Counter[str]:
        """Count the responses."""
        return Counter({RESPONSE: len(column)} if len(column) else {})

    def shortage(self, counts: Counter[str]) -> str | None:
        """Nothing is short where there is a row: each has its own response."""
        return None

    def positives(self, counts: Counter[str]) -> int:
        """Count all rows: no response is the positive one."""
        return counts.total()

    def classes(self, column: pa.ChunkedArray) -> Classes:
        """A response is of no class."""
        return Classes([], np.empty(0, np.int64), np.empty(0, np.int64))

    def encode(self, column: pa.ChunkedArray, where: str) -> Array:
        """Return float64 [rows, 0]: what is known of a response is known of its tokens alone.

        `Tokens.sums` counts them in training, `evaluation.predicted_tokens` describes them.
        """
        return np.empty((len(column), 0))

    def load(self, folder: Path, **config: Any) -> PreTrainedModel:
        """Load a decoder with the head of its language model."""
        from springtide_trainer.tasks.language import decoder

        model: PreTrainedModel = decoder.load(folder, **config)
        return model

    def adopt(self, model: PreTrainedModel, source: Path) -> CausalLM:
        """Take over a decoder as it is."""
        return self

    def continued(self, parent: TaskSpec, labels: Array) -> CausalLM:
        """Nothing is fixed for a lineage but the tokenizer."""
        return self

    @property
    def kept(self) -> dict[str, CausalLMOptions]:
        """The options."""
        return {"causal_lm": self.options}

    def extend(self, model: PreTrainedModel, seed: int) -> None:
        """Nothing: the outputs are the tokens of the tokenizer, which does not change."""

    def collate(self, labels: Array) -> Tensor:
        """Return the labels as they are. The loss reads the tokens of the response."""
        import torch

        return torch.from_numpy(labels)

    def objective(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of a batch."""
        return self.loss_of(model(**batch.inputs).logits, batch)

    def loss_of(self, logits: Tensor, batch: Batch) -> Tensor:
        """The loss of each token of the responses, multiplied by the weight of its row."""
        return (logits[:, 0] * batch.weights).sum()

    def predict(self, logits: Tensor) -> Tensor:
        """Return the mean negative log likelihood of the tokens of each response: [rows, 1].

        Args:
            logits: float32 [rows, 2], the sum and the number of tokens (`decoder.Sums`).
        """
        return logits[:, :1] / logits[:, 1:].clamp(min=1)

    def statistic(
        self, metric: str, rows: EncodedRows, predictions: Array, *, once: bool = False
    ) -> Statistic:
        """Prepare the perplexity; the first label of a row is its number of tokens."""
        return perplexity.statistic(rows, predictions)

    def trivial_baseline(self, metric: str, rows: EncodedRows) -> float:
        """Return the perplexity of the frequencies of tokens, which ignore all that came before."""
        return perplexity.of_frequencies(rows)

    def check_validation(self, metric: str, labels: Array) -> None:
        """The metric has a value for any rows."""

    def by_label(self, rows: EncodedRows, predictions: Array) -> list[dict[str, Any]]:
        """No label is predicted."""
        return []

    def over_incumbent(
        self, rows: EncodedRows, predictions: Array, incumbent: Sequence[str]
    ) -> tuple[Array, EncodedRows, Array]:
        """Keep all rows: every model has the one output."""
        return np.ones(len(rows.label), dtype=bool), rows, predictions

    @property
    def tensors(self) -> list[OutputTensor]:
        """The generated text of each row."""
        return [OutputTensor(RESPONSE, "BYTES", lambda texts: texts[:, 0])]

    @property
    def scored_tensors(self) -> list[OutputTensor]:
        """The likelihood of each row, for a request that has the responses."""
        return [OutputTensor(LIKELIHOOD, "FP32", lambda predictions: predictions[:, 0])]
