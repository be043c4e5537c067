"""Tokenized rows: encoded once in bulk, stored without padding, padded per batch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from springtide_trainer.artifact.long_texts import shorten

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from springtide_trainer.artifact.preprocess import Pair

CHUNK = 4096
"""Rows encoded by one call of the tokenizer, which bounds the memory of its Python integers."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of rows of different length, concatenated.

    Attributes:
        values: int32 [all tokens] for each model input that varies, such as `input_ids`.
        starts: int64 [rows + 1], the start of each row and the end of the last one.
        padding: The padding value of each model input.
        pad_left: Whether padding goes to the left of a row.
    """

    values: dict[str, NDArray[np.int32]]
    starts: NDArray[np.int64]
    padding: dict[str, int]
    pad_left: bool = False

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row: int64 [rows]."""
        return np.diff(self.starts)

    def batch(self, rows: Sequence[int] | NDArray[np.int64]) -> dict[str, Tensor]:
        """Pad these rows to the longest: int64 [rows, tokens] for each model input.

        The cost depends on these rows only, not on the total number of rows.
        """
        chosen = np.asarray(rows, dtype=np.int64)
        begins = self.starts[chosen]
        lengths = self.starts[chosen + 1] - begins
        width = int(lengths.max())
        inside = np.arange(width) < lengths[:, None]
        if self.pad_left:
            inside = inside[:, ::-1]
        ends = np.cumsum(lengths)
        places = np.repeat(begins - (ends - lengths), lengths) + np.arange(ends[-1])
        batch = {"attention_mask": torch.from_numpy(inside.astype(np.int64))}
        for name, values in self.values.items():
            padded = np.full(inside.shape, self.padding[name], dtype=np.int64)
            padded[inside] = values[places]
            batch[name] = torch.from_numpy(padded)
        return batch


def tokenize(tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], max_length: int) -> Tokens:
    """Encode rows, truncated to `max_length` tokens, the longer text of a pair first."""
    names = [name for name in tokenizer.model_input_names if name != "attention_mask"]
    parts: dict[str, list[NDArray[np.int32]]] = {name: [np.empty(0, np.int32)] for name in names}
    lengths: list[int] = []
    cut = partial(shorten, max_length=max_length, count=partial(_count, tokenizer))
    paired = any(second is not None for _, second in pairs)
    for start in range(0, len(pairs), CHUNK):
        chunk = pairs[start : start + CHUNK]
        texts = [cut(text) for text, _ in chunk]
        seconds = [cut(second or "") for _, second in chunk] if paired else None
        encoded = tokenizer(texts, seconds, truncation=True, max_length=max_length, padding=False)
        for name in names:
            parts[name].append(np.concatenate([np.asarray(row, np.int32) for row in encoded[name]]))
        lengths.extend(len(row) for row in encoded["input_ids"])
    padding = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    return Tokens(
        values={name: np.concatenate(arrays) for name, arrays in parts.items()},
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        padding={name: int(padding.get(name) or 0) for name in names},
        pad_left=tokenizer.padding_side == "left",
    )


def _count(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """Count the tokens of a text, without special tokens."""
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
