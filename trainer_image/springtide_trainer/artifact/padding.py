"""Checks on two texts that padding changes no score, and chooses the side of the padding.

A model with a position for each column of a batch, such as GPT-2, counts padding on the left as
positions, and the head of XLNet reads the last column: scores would depend on the other rows of a
batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from springtide_trainer.artifact.tokens import tokenize

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEXTS = ("a", "a b c d e f")
TOLERANCE = 1e-3
"""Maximum difference of a logit with and without padding, in FP32, relative to the largest one if
that is above 1: a head of Regression may predict prices of 100,000."""


def pads_alike(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether a short text has the same logits beside a longer one, in evaluation mode."""
    tokens = tokenize(tokenizer, [(text, None) for text in TEXTS], 8)
    with torch.no_grad():
        alone, beside = (model(**tokens.batch(rows)).logits[0] for rows in ([0], [0, 1]))
    apart = float((alone - beside).abs().max())
    return apart <= TOLERANCE * max(1.0, float(alone.abs().max()))


def choose_side(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Pad on the other side where that, and not the tokenizer's side, changes no score.

    Returns:
        Whether padding changes no score now. It always does where a model ignores the attention
        mask, such as FNet.
    """
    if pads_alike(model, tokenizer):
        return True
    given = tokenizer.padding_side
    tokenizer.padding_side = "left" if given == "right" else "right"
    if pads_alike(model, tokenizer):
        return True
    tokenizer.padding_side = given
    return False
