"""Vectors of rows, for the distance between them."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from springtide_trainer.artifact.models import predict
from springtide_trainer.artifact.onnx_model import OnnxModel
from springtide_trainer.errors import Refused
from springtide_trainer.tasks.embedding import Embedding
from springtide_trainer.tasks.language.response_tokens import MASK

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    from springtide_trainer.artifact.models import Scorer
    from springtide_trainer.artifact.tokens import Tokens


@dataclass(frozen=True)
class MeanOutputs:
    """A model without its head, in place of task and model: its output is the mean over tokens."""

    model: Any

    @property
    def width(self) -> int:
        """Length of a vector."""
        return int(self.model.config.hidden_size)

    @property
    def device(self) -> torch.device:
        """The device of the inputs."""
        device: torch.device = self.model.device
        return device

    def train(self, mode: bool = True) -> None:
        """Set training or evaluation mode."""
        self.model.train(mode)

    def predict(self, logits: Tensor) -> Tensor:
        """Return the vectors: float32 [rows, width]."""
        return logits.float()

    def __call__(self, **inputs: Tensor) -> Any:
        """Return the mean of the last hidden states over the tokens that are no padding."""
        inputs.pop(MASK, None)  # prompts of CausalLM, without responses
        states = self.model.base_model(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None].to(states.dtype)
        return SimpleNamespace(logits=(states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1))


def embed(
    scorer: Scorer, tokens: Tokens, *, batch_size: int, observe: Callable[[int], None]
) -> NDArray[np.float32]:
    """Return a vector of each row: that of task Embedding, else the mean over the last layer.

    Raises:
        Refused: the model is an optimized form, which has no hidden states.
    """
    import numpy as np

    if isinstance(scorer.model, OnnxModel):
        message = (
            f"{scorer.folder} is an optimized form, which has no hidden states; name the folder of "
            "the weights, or pick by Entropy or Margin"
        )
        raise Refused("UnsupportedOption", message, "--strategy")
    rows = np.arange(len(tokens.lengths))
    task: Any = scorer.task
    model: Any = scorer.model
    if not isinstance(scorer.task, Embedding):
        task = model = MeanOutputs(scorer.model)
    return predict(task, model, tokens, rows=rows, batch_size=batch_size, observe=observe)
