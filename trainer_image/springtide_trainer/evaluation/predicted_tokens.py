"""What is known without a model of the tokens that language models predict: responses, hidden ones.

How many they are, and how frequent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from springtide_trainer.tasks.language.masked_tokens import CHOSEN, ORIGINAL
from springtide_trainer.tasks.language.response_tokens import MASK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from springtide_trainer.artifact.tokens import Tokens


@dataclass(frozen=True)
class PredictedTokens:
    """The tokens of some rows that a model predicts.

    Attributes:
        words: Integers [all predicted tokens], one row after the other.
        counts: int64 [rows], how many are of each row.
    """

    words: NDArray[np.integer[Any]]
    counts: NDArray[np.int64]

    @staticmethod
    def of(tokens: Tokens) -> PredictedTokens:
        """Return those of prompts with responses, or of texts with hidden tokens."""
        hidden = CHOSEN in tokens.values
        words = tokens.values[ORIGINAL if hidden else "input_ids"]
        name = CHOSEN if hidden else MASK
        return PredictedTokens(words[tokens.values[name].astype(bool)], tokens.sums(name))

    @staticmethod
    def join(parts: Sequence[PredictedTokens]) -> PredictedTokens:
        """Concatenate the rows of several parts."""
        none = np.empty(0, np.int64)
        return PredictedTokens(
            np.concatenate([each.words for each in parts] or [none]),
            np.concatenate([each.counts for each in parts] or [none]),
        )

    def same_rows(self, other: PredictedTokens) -> NDArray[np.bool_]:
        """Return in which rows two models predict the same tokens: bool [rows].

        Not where a text is cut at another length, or rendered by another template.
        """
        same: NDArray[np.bool_] = self.counts == other.counts
        one, two = (each.words[np.repeat(same, each.counts)] for each in (self, other))
        row = np.repeat(np.flatnonzero(same), self.counts[same])
        same[row[one != two]] = False
        return same


def labels(predicted: PredictedTokens) -> NDArray[np.float64]:
    """Describe the predicted tokens of each row.

    Args:
        predicted: The predicted tokens of all rows.

    Returns:
        float64 [rows, 3]: their number, the sum of their negative log frequencies among those of
        all rows, and how many are the most frequent one: no fixed frequencies predict better.
    """
    words, rows = predicted.words, len(predicted.counts)
    counts = np.bincount(words, minlength=1)
    frequent = np.log(np.maximum(counts, 1))
    surprise = np.log(max(counts.sum(), 1)) - frequent[words]
    of_row = np.repeat(np.arange(rows), predicted.counts)
    each = [None, surprise, words == counts.argmax()]
    return np.stack([np.bincount(of_row, one, rows).astype(float) for one in each], axis=1)
