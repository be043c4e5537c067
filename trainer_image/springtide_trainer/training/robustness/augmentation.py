"""Augmentation: training rows with some tokens hidden and some words swapped, others each epoch.

What happens to a row is a function of seed, epoch and row alone, whatever batch it is in. Tokens
are changed and not texts, so that rows are tokenized once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from springtide_trainer.artifact.tokens import highest_id
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from springtide_api.update.robustness import Augmentation as Options
    from springtide_api.update.robustness import Robustness

_MASK = "attention_mask"
_FIRST = ("\u2581", "\u0120")
"""What a token begins with that begins a word, in tokenizers of SentencePiece and of bytes."""
_LATER = "##"
"""What a token begins with that does not begin a word, in tokenizers of WordPiece."""
_LAST = "</w>"


@dataclass(frozen=True)
class Vocabulary:
    """What is known of each token.

    Attributes:
        ordinary: bool [tokens], part of a text. Special tokens are neither hidden nor swapped.
        begins: bool [tokens], the first token of a word.
    """

    ordinary: NDArray[np.bool_]
    begins: NDArray[np.bool_]

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerBase) -> Vocabulary:
        """Read the tokens of a tokenizer. Without marks of words, each token is a word.

        Raises:
            Refused: tokens mark the ends of words, not their beginnings.
        """
        numbers = [*range(highest_id(tokenizer) + 1)]  # with gaps they exceed the count of tokens
        tokens = [str(each) for each in tokenizer.convert_ids_to_tokens(numbers)]
        special = {*tokenizer.all_special_ids} - {tokenizer.unk_token_id}
        ordinary = ~np.isin(np.arange(len(tokens)), [*special])
        starts = {
            mark: np.array([token.startswith(mark) for token in tokens])
            for mark in (_LATER, *_FIRST)  # without any mark, no token is a later one
        }
        mark = max(starts, key=lambda each: int(starts[each].sum()))
        if sum(token.endswith(_LAST) for token in tokens) > starts[mark].sum():
            raise Refused(
                "UnsupportedModel",
                f"the tokens of this model mark words by {_LAST!r} at their ends, and wordSwap "
                "needs their beginnings; remove training.robustness.augmentation.wordSwap",
                "spec.training.robustness.augmentation.wordSwap",
            )
        return Vocabulary(ordinary, starts[mark] if mark in _FIRST else ~starts[mark])


@dataclass(frozen=True)
class Augmentation:
    """Hides tokens and swaps words of training rows.

    Attributes:
        options: The recipe's settings.
        vocabulary: What is known of each token.
        seed: Seed of the recipe.
    """

    options: Options
    vocabulary: Vocabulary
    seed: int

    def __call__(
        self, inputs: dict[str, Tensor], rows: NDArray[np.int64], epoch: int
    ) -> dict[str, Tensor]:
        """Return the inputs of a batch, changed.

        Args:
            inputs: int64 [rows, tokens] of each input of the model.
            rows: Indices of the examples.
            epoch: The epoch, from 0.
        """
        arrays = {name: value.numpy().copy() for name, value in inputs.items()}
        swap, drop = float(self.options.word_swap), float(self.options.token_dropout)
        for place, row in enumerate(rows.tolist()):
            rng = np.random.default_rng((self.seed, epoch, row))
            tokens, inside = arrays["input_ids"][place], arrays[_MASK][place] == 1
            ordinary = inside & self.vocabulary.ordinary[tokens]
            order = swapped(ordinary, self.vocabulary.begins[tokens], swap, rng)
            for name in arrays.keys() - {_MASK}:
                arrays[name][place] = arrays[name][place][order]
            arrays[_MASK][place, hidden(np.flatnonzero(ordinary), drop, rng)] = 0
        return {name: torch.from_numpy(value) for name, value in arrays.items()}


def of(
    wanted: Robustness | None, tokenizer: PreTrainedTokenizerBase, *, seed: int
) -> Augmentation | None:
    """Return the augmentation that a recipe asks for; None without.

    Raises:
        Refused: the tokenizer does not show where words begin.
    """
    if wanted is None or wanted.augmentation is None:
        return None
    return Augmentation(wanted.augmentation, Vocabulary.of(tokenizer), seed)


def hidden(places: NDArray[np.int64], share: float, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw the tokens that are hidden (Iyyer et al. 2015): each with the same chance, never all.

    Args:
        places: Where the ordinary tokens are.
        share: The chance of each.
        rng: Random numbers of the row.
    """
    drawn = rng.random(len(places))
    if len(places):
        drawn[drawn.argmax()] = 1.0
    return places[drawn < share]


def swapped(
    ordinary: NDArray[np.bool_], begins: NDArray[np.bool_], share: float, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the order of the tokens of a row after some pairs of words changed places.

    Random swap of EDA (Wei and Zou 2019), as share * words swaps on average. The words of a pair
    are of one text: with no special token between them.

    Args:
        ordinary: bool [tokens], part of a text.
        begins: bool [tokens], the first token of a word.
        share: Swaps for each word.
        rng: Random numbers of the row.
    """
    order = np.arange(len(ordinary))
    texts = np.split(order, np.flatnonzero(np.diff(ordinary)) + 1)
    for text in texts:
        if not ordinary[text[0]]:
            continue
        words = np.split(text, np.flatnonzero(begins[text[1:]]) + 1)
        for _ in range(int(share * len(words) + rng.random())):
            if len(words) > 1:
                one, other = rng.choice(len(words), size=2, replace=False)
                words[one], words[other] = words[other], words[one]
        order[text] = np.concatenate(words)
    return order
