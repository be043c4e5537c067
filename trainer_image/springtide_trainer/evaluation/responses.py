"""What is known of responses without a model: how many tokens, and how frequent they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.tasks.language.response_tokens import MASK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from springtide_trainer.artifact.tokens import Tokens


def labels(tokens: Tokens) -> NDArray[np.float64]:
    """Describe the response of each row: float64 [rows, 2].

    Args:
        tokens: Prompts and responses.

    Returns:
        The number of its tokens, and the sum of their negative log frequencies among the tokens of
        all responses: no fixed frequencies predict these rows better.
    """
    if not len(tokens.lengths):
        return np.empty((0, 2))
    words, mask = tokens.values["input_ids"], tokens.values[MASK].astype(bool)
    counts = np.bincount(words[mask])
    surprise = np.zeros(len(words))
    surprise[mask] = np.log(counts.sum()) - np.log(counts[words[mask]])
    sums = np.add.reduceat(surprise, tokens.starts[:-1])
    return np.stack([tokens.sums(MASK).astype(np.float64), sums], axis=1)
