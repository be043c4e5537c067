"""A verified artifact as something that scores; the evaluator and the server both use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from springtide_trainer.artifact import verify
from springtide_trainer.preprocess import Preprocess

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from springtide_trainer.preprocess import Pair

SHORT = 256
"""Tokens below which the plain attention beats the flash kernels of the CPU."""


@dataclass(frozen=True)
class Scorer:
    """A model with all that it takes to score a row."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    preprocess: Preprocess

    @property
    def device(self) -> torch.device:
        return self.model.device

    def probabilities(self, pairs: Sequence[Pair], batch_size: int = 32) -> np.ndarray:
        """Score rows in FP32, without dropout; the same rows give the same numbers.

        Args:
            pairs: Rows as `preprocess.render` writes them.
            batch_size: Rows of one forward pass. Rows of like length go together.

        Returns:
            float32 [rows, labels], each row a distribution over `preprocess.labels`.
        """
        made = np.empty((len(pairs), len(self.preprocess.labels)), dtype=np.float32)
        if not pairs:
            return made
        encoded = encode(self.tokenizer, pairs, self.preprocess.max_length)
        lengths = np.array([len(ids) for ids in encoded["input_ids"]])
        order = np.argsort(lengths, kind="stable")
        self.model.eval()
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                rows = order[start : start + batch_size]
                batch = collate(self.tokenizer, encoded, rows.tolist()).to(self.device)
                logits = self.model(**batch).logits.float()
                made[rows] = torch.softmax(logits, dim=-1).cpu().numpy()
        return made


def load(folder: Path, digest: str, device: str | None = None) -> Scorer:
    """Verify an artifact and load it in FP32, on the GPU where there is one.

    Raises:
        Refused: the folder is not the artifact of this digest, or not a safe one.
    """
    verify(folder, digest)
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    return Scorer(load_model(folder).to(place), load_tokenizer(folder), Preprocess.read(folder))


def load_model(folder: Path, **options: Any) -> PreTrainedModel:
    """Load a sequence classifier in FP32 from safetensors; never code, never the network."""
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        folder,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=torch.float32,
        **options,
    )
    return model.eval()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a folder; never code, never the network."""
    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def encode(
    tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], max_length: int
) -> dict[str, list[list[int]]]:
    """Tokenise rows at once, unpadded, cut to `max_length` tokens."""
    texts = [text for text, _ in pairs]
    seconds = (
        [second or "" for _, second in pairs] if any(s is not None for _, s in pairs) else None
    )
    return dict(tokenizer(texts, seconds, truncation=True, max_length=max_length))


def collate(
    tokenizer: PreTrainedTokenizerBase, encoded: dict[str, list[list[int]]], rows: Sequence[int]
) -> Any:
    """Pad these rows to the longest of them: tensors [rows, tokens]."""
    chosen = {name: [values[row] for row in rows] for name, values in encoded.items()}
    return tokenizer.pad(chosen, return_tensors="pt")
