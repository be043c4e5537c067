"""Tokenized rows: encoded once in bulk, stored without padding, padded per batch."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from springtide_trainer.artifact.long_texts import shorten
from springtide_trainer.tasks.language.masked_tokens import CHOSEN, ORIGINAL, MaskingTokenizer
from springtide_trainer.tasks.language.response_tokens import MASK, ResponseTokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from springtide_trainer.artifact.preprocess import Pair

    Integers = NDArray[np.integer[Any]]
    RowTokenizer = PreTrainedTokenizerBase | ResponseTokenizer | MaskingTokenizer
    """Encodes rows: texts, also with hidden tokens, or prompts with responses."""

CHUNK = 4096
"""Rows encoded by one call of the tokenizer, which bounds the memory of its Python integers."""


@dataclass(frozen=True)
class Widths:
    """To how many tokens the rows of a batch are padded.

    Attributes:
        multiple: The width is the next multiple of this, so that batches have few shapes.
        most: The width is at most this; the longest row of all is a good choice, because a model
            can have fewer positions than the next multiple.
    """

    multiple: int = 1
    most: int = sys.maxsize

    def of(self, longest: Any) -> Any:
        """Return the width of a batch whose longest row has so many tokens; arrays work too."""
        return np.maximum(
            longest, np.minimum(-(-longest // self.multiple) * self.multiple, self.most)
        )


EXACT = Widths()
"""To the longest row of the batch."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of rows of different length, concatenated.

    Attributes:
        values: Integers [all tokens] for each model input that varies, such as `input_ids`.
        starts: int64 [rows + 1], the start of each row and the end of the last one.
        padding: The padding value of each model input.
        pad_left: Whether padding goes to the left of a row.
    """

    values: dict[str, Integers]
    starts: NDArray[np.int64]
    padding: dict[str, int]
    pad_left: bool = False

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row: int64 [rows]."""
        return np.diff(self.starts)

    def sums(self, name: str) -> NDArray[np.int64]:
        """Add up a model input over the tokens of each row, at least one: int64 [rows]."""
        if not len(self.lengths):
            return np.empty(0, np.int64)
        found: NDArray[np.int64] = np.add.reduceat(
            self.values[name], self.starts[:-1], dtype=np.int64
        )
        return found

    def of_rows(self, rows: NDArray[np.int64]) -> dict[str, Integers]:
        """Return the tokens of these rows, concatenated, for each model input."""
        begins = self.starts[rows]
        lengths = self.starts[rows + 1] - begins
        ends = np.cumsum(lengths)
        places = np.repeat(begins - (ends - lengths), lengths) + np.arange(lengths.sum())
        return {name: values[places] for name, values in self.values.items()}

    def batch(
        self, rows: Sequence[int] | NDArray[np.int64], widths: Widths = EXACT
    ) -> dict[str, Tensor]:
        """Pad these rows to one width: int64 [rows, tokens] for each model input.

        The cost depends on these rows only, not on the total number of rows.
        """
        chosen = np.asarray(rows, dtype=np.int64)
        lengths = self.starts[chosen + 1] - self.starts[chosen]
        return self.padded(self.of_rows(chosen), lengths, widths)

    def padded(
        self, values: dict[str, Integers], lengths: NDArray[np.int64], widths: Widths
    ) -> dict[str, Tensor]:
        """Pad the concatenated tokens of rows, also of other rows of the same tokenizer.

        Args:
            values: The tokens, for each model input.
            lengths: int64 [rows], tokens of each row.
            widths: To how many tokens.
        """
        width = int(widths.of(lengths.max()))
        inside = np.arange(width) < lengths[:, None]
        if self.pad_left:
            inside = inside[:, ::-1]
        batch = {"attention_mask": torch.from_numpy(inside.astype(np.int64))}
        for name, each in values.items():
            rows = np.full(inside.shape, self.padding[name], dtype=np.int64)
            rows[inside] = each
            batch[name] = torch.from_numpy(rows)
        return batch


def tokenize(tokenizer: RowTokenizer, pairs: Sequence[Pair], max_length: int) -> Tokens:
    """Encode rows, truncated to `max_length` tokens, the longer text of a pair first."""
    chunks = (pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK))
    return collect(tokenizer, encode(tokenizer, chunks, max_length))


@dataclass(frozen=True)
class Encoded:
    """Tokens of a chunk of rows, concatenated.

    Attributes:
        values: Integers [all tokens] for each model input that varies.
        lengths: int64 [rows].
    """

    values: dict[str, Integers]
    lengths: NDArray[np.int64]


def encode(
    tokenizer: RowTokenizer, chunks: Iterable[Sequence[Pair]], max_length: int
) -> Iterator[Encoded]:
    """Encode chunks of rows one after the other, each to the smallest types that hold its tokens.

    The types are a function of the tokenizer, so they are equal in all chunks.
    """
    types = input_types(tokenizer)
    for chunk in chunks:
        encoded = _encoded(tokenizer, chunk, max_length)
        lengths = np.fromiter(map(len, encoded["input_ids"]), np.int64, len(chunk))
        values = {
            name: np.fromiter(chain.from_iterable(encoded[name]), kind, int(lengths.sum()))
            for name, kind in types.items()
        }
        yield Encoded(values, lengths)


def _encoded(tokenizer: RowTokenizer, chunk: Sequence[Pair], max_length: int) -> Any:
    """Return a list of numbers for each row, for each model input."""
    if isinstance(tokenizer, ResponseTokenizer):
        return tokenizer.encode(chunk, max_length)
    if isinstance(tokenizer, MaskingTokenizer):
        return tokenizer.hidden(_encoded(tokenizer.tokenizer, chunk, max_length))
    cut = partial(
        shorten,
        max_length=max_length,
        count=partial(_count, tokenizer),
        keep_end=tokenizer.truncation_side == "left",
    )
    texts = [cut(text) for text, _ in chunk]
    paired = any(second is not None for _, second in chunk)
    seconds = [cut(second or "") for _, second in chunk] if paired else None
    made = tokenizer(texts, seconds, truncation=True, max_length=max_length, padding=False)
    return made if all(made["input_ids"]) else _never_empty(tokenizer, made)


def _never_empty(tokenizer: PreTrainedTokenizerBase, encoded: Any) -> dict[str, list[list[int]]]:
    """Give rows without tokens one, which is not padding: no model computes from no tokens.

    An empty text has none where the tokenizer adds no special tokens, as many of decoders.
    """
    special = (
        tokenizer.bos_token_id,
        tokenizer.cls_token_id,
        tokenizer.eos_token_id,
        tokenizer.unk_token_id,
        *sorted(tokenizer.get_vocab().values()),
    )
    word = next(each for each in special if each not in {None, tokenizer.pad_token_id})
    alone = {"input_ids": [word], "attention_mask": [1]}
    return {name: [row or alone.get(name, [0]) for row in rows] for name, rows in encoded.items()}


def input_types(tokenizer: RowTokenizer) -> dict[str, np.dtype[Any]]:
    """Return the type in which each model input that varies is stored."""
    words = np.dtype(np.uint16 if highest_id(tokenizer) < 1 << 16 else np.int32)
    known: dict[str, np.dtype[Any]] = {"input_ids": words, ORIGINAL: words}
    known |= dict.fromkeys(("token_type_ids", MASK, CHOSEN), np.dtype(np.uint8))
    names = [name for name in tokenizer.model_input_names if name != "attention_mask"]
    return {name: known.get(name, np.dtype(np.int32)) for name in names}


@lru_cache(maxsize=8)
def highest_id(tokenizer: RowTokenizer) -> int:
    """Return the highest number of a token. Numbers may have gaps, so it can exceed their count."""
    return max(tokenizer.get_vocab().values(), default=0)


def collect(tokenizer: RowTokenizer, encoded: Iterable[Encoded]) -> Tokens:
    """Concatenate the chunks in memory."""
    types = input_types(tokenizer)
    parts: dict[str, list[Integers]] = {name: [np.empty(0, kind)] for name, kind in types.items()}
    lengths = [np.empty(0, np.int64)]
    for chunk in encoded:
        lengths.append(chunk.lengths)
        for name, part in chunk.values.items():
            parts[name].append(part)
    values = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return tokens_of(tokenizer, values, np.concatenate(lengths))


def tokens_of(
    tokenizer: RowTokenizer, values: dict[str, Integers], lengths: NDArray[np.int64]
) -> Tokens:
    """Return concatenated tokens with the padding of their tokenizer."""
    padding = {"input_ids": tokenizer.pad_token_id, "token_type_ids": tokenizer.pad_token_type_id}
    starts = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=starts[1:])
    return Tokens(
        values=values,
        starts=starts,
        padding={name: int(padding.get(name) or 0) for name in values},
        pad_left=tokenizer.padding_side == "left",
    )


def _count(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """Count the tokens of a text, without special tokens."""
    return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
