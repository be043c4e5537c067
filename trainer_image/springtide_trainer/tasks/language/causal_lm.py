"""CausalLM: a decoder learns the responses of a dialogue, and answers with text.

A row is a prompt and its response, which is the label. Only the tokens of the response are learnt
and evaluated, each given all tokens before it; those of the prompt are read.

PyTorch and transformers are imported where they are used, because probes need neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from springtide_api.update.task import CausalLMOptions
from springtide_trainer.errors import Refused
from springtide_trainer.tasks.language.predicted_tokens import PredictedTokens
from springtide_trainer.tasks.metrics import perplexity
from springtide_trainer.tasks.task import OutputTensor

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedModel

    from springtide_trainer.tasks.metrics.statistic import Array, EncodedRows, Statistic
    from springtide_trainer.tasks.task import TaskSpec

COLUMN = "data.source.columns.label"
RESPONSE = "response"
"""The tensor of the server with generated texts, or of a request with given ones."""
LIKELIHOOD = "negative_log_likelihood"
"""The prediction of a row: the mean over the tokens of its response."""


@dataclass(frozen=True)
class CausalLM(PredictedTokens):
    """The task of continuing a prompt with its response."""

    options: CausalLMOptions
    metrics = ("perplexity",)
    row = RESPONSE

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

    def load(self, folder: Path, **config: Any) -> PreTrainedModel:
        """Load a decoder with the head of its language model."""
        from springtide_trainer.tasks.language import decoder

        model: PreTrainedModel = decoder.load(folder, **config)
        return model

    @property
    def kept(self) -> dict[str, CausalLMOptions]:
        """The options."""
        return {"causal_lm": self.options}

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

    @property
    def tensors(self) -> list[OutputTensor]:
        """The generated text of each row."""
        return [OutputTensor(RESPONSE, "BYTES", lambda texts: texts[:, 0])]

    @property
    def scored_tensors(self) -> list[OutputTensor]:
        """The likelihood of each row, for a request that has the responses."""
        return [OutputTensor(LIKELIHOOD, "FP32", lambda predictions: predictions[:, 0])]
