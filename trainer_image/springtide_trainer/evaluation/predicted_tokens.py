"""What is known without a model of the tokens that language models predict: responses, hidden ones.

How many they are, and how frequent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.tasks.language.masked_tokens import CHOSEN, ORIGINAL
from springtide_trainer.tasks.language.response_tokens import MASK

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from springtide_trainer.artifact.tokens import Tokens


def labels(tokens: Tokens) -> NDArray[np.float64]:
    """Describe the predicted tokens of each row.

    Args:
        tokens: Prompts and responses, or texts with hidden tokens.

    Returns:
        float64 [rows, 3]: their number, the sum of their negative log frequencies among those of
        all rows, and how many are the most frequent one: no fixed frequencies predict better.
    """
    if not len(tokens.lengths):
        return np.empty((0, 3))
    hidden = CHOSEN in tokens.values
    words = tokens.values[ORIGINAL if hidden else "input_ids"]
    chosen = tokens.values[CHOSEN if hidden else MASK].astype(bool)
    counts = np.bincount(words[chosen], minlength=1)
    surprise = np.zeros(len(words))
    surprise[chosen] = np.log(counts.sum()) - np.log(counts[words[chosen]])
    most = chosen & (words == counts.argmax())
    each = [chosen, surprise, most]
    return np.stack([np.add.reduceat(one, tokens.starts[:-1], dtype=float) for one in each], axis=1)
