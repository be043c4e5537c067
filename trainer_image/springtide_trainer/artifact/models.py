"""Loads verified artifacts and scores rows with them, for the evaluation and the server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from springtide_trainer.artifact.manifest import verify
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.artifact.tokens import Tokens, tokenize

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from springtide_trainer.artifact.preprocess import Pair

transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
transformers.utils.logging.set_verbosity_error()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Scorer:
    """A model with its tokenizer and preprocessing."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    preprocess: Preprocess

    def probabilities(self, pairs: Sequence[Pair], batch_size: int = 32) -> NDArray[np.float32]:
        """Score rows in FP32, without dropout. Deterministic: equal rows give equal scores.

        Args:
            pairs: Rows as returned by `preprocess.render`.
            batch_size: Rows of one forward pass; rows of similar length are batched together.

        Returns:
            float32 [rows, labels], each row a probability distribution over `preprocess.labels`.
        """
        if not pairs:
            return np.empty((0, len(self.preprocess.labels)), dtype=np.float32)
        tokens = tokenize(self.tokenizer, pairs, self.preprocess.max_length)
        return probabilities(self.model, tokens, np.arange(len(pairs)), batch_size=batch_size)


def probabilities(
    model: PreTrainedModel, tokens: Tokens, rows: NDArray[np.int64], *, batch_size: int
) -> NDArray[np.float32]:
    """Score these rows in FP32: float32 [rows, labels]. Sets the model to evaluation mode."""
    made = np.empty((len(rows), int(model.config.num_labels or 0)), dtype=np.float32)
    order = np.argsort(tokens.lengths[rows], kind="stable")
    model.train(mode=False)
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            batch = tokens.batch(rows[chosen])
            inputs = {name: value.to(model.device) for name, value in batch.items()}
            logits = model(**inputs).logits.float()
            made[chosen] = torch.softmax(logits, dim=-1).cpu().numpy()
    return made


def load(folder: Path, digest: str, device: str | None = None) -> Scorer:
    """Verify an artifact and load it in FP32, on the GPU if there is one.

    Raises:
        Refused: the folder does not match the digest, or is unsafe to load.
    """
    verify(folder, digest)
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    model = move(load_model(folder), chosen)
    return Scorer(model, load_tokenizer(folder), Preprocess.read(folder))


def load_model(folder: Path, **options: Any) -> PreTrainedModel:
    """Load a sequence classifier in FP32 from safetensors, without custom code or network access.

    Args:
        folder: A Hugging Face folder that has been checked.
        options: Fields of the model's configuration that override the folder's.
    """
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=torch.float32,
        **options,
    )
    return model


def move(model: PreTrainedModel, device: str | torch.device) -> PreTrainedModel:
    """Move a model to a device, in place, and return it."""
    torch.nn.Module.to(model, device)
    return model


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder, without custom code or network access."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    return tokenizer
