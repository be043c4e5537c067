"""Tokens of texts of which some are hidden, for a model to predict them: 15 % of a row, at least 1.

As BERT is trained (Devlin et al. 2019, arXiv:1810.04805): of the chosen tokens 80 % become the mask
token, 10 % another token and 10 % stay. Special tokens are never chosen. The stored tokens of a row
are hidden as the row alone says, so all models are evaluated on the same ones; a training hides
others in each epoch, as seed, epoch and row say.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

CHOSEN = "chosen_tokens"
"""The input that is 1 for the tokens that are predicted."""
ORIGINAL = "original_ids"
"""The input with the tokens of the text as it is."""
SHARE = 0.15
"""Share of the tokens of a row that are predicted."""
MASKED, REPLACED = 0.8, 0.1
"""Shares of these that become the mask token, and another token. The rest stays."""
_SHOWN = "attention_mask"


@dataclass(frozen=True)
class Masks:
    """Chooses and changes the tokens of a row.

    Attributes:
        mask: The mask token.
        ordinary: bool [tokens], part of a text.
        words: int64 [ordinary tokens]; one of them replaces another.
    """

    mask: int
    ordinary: NDArray[np.bool_]
    words: NDArray[np.int64]

    @staticmethod
    def of(tokenizer: PreTrainedTokenizerBase) -> Masks:
        """Read the tokens of a tokenizer with a mask token."""
        known = np.array(sorted(tokenizer.get_vocab().values()), np.int64)
        words = known[~np.isin(known, [*tokenizer.all_special_ids])]
        ordinary = np.zeros(known.max() + 1, dtype=bool)
        ordinary[words] = True
        return Masks(int(tokenizer.mask_token_id), ordinary, words)

    def hide(
        self, ids: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Hide tokens of a row.

        The number of chosen tokens depends on the row alone, not on chance.

        Args:
            ids: int64 [tokens], without padding.
            rng: Random numbers of the row.

        Returns:
            The changed tokens, and which of them are predicted: bool [tokens]. None of a row that
            has special tokens alone.
        """
        places = np.flatnonzero(self.ordinary[ids])
        count = min(len(places), max(1, round(SHARE * len(places))))
        order, kind, other = rng.random((3, len(places)))
        first = np.argsort(order, kind="stable")[:count]
        found, chosen = ids.copy(), np.zeros(len(ids), dtype=bool)
        chosen[places[first]] = True
        hidden, replaced = kind[first] < MASKED, kind[first] >= 1 - REPLACED
        found[places[first[hidden]]] = self.mask
        drawn = (other[first[replaced]] * len(self.words)).astype(np.int64)
        found[places[first[replaced]]] = self.words[drawn]
        return found, chosen

    def of_row(self, ids: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Hide the tokens of a row that its own tokens say, whatever rows are beside it."""
        row = np.asarray(ids, dtype="<i8")
        seed = int.from_bytes(hashlib.sha256(row.tobytes()).digest()[:16], "little")
        return self.hide(row.astype(np.int64), np.random.default_rng(seed))


class MaskingTokenizer:
    """Encodes texts with hidden tokens, in place of a tokenizer of the library.

    Args:
        tokenizer: A fast tokenizer with a mask token and a padding token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self.masks = Masks.of(tokenizer)
        self.model_input_names = (*tokenizer.model_input_names, CHOSEN, ORIGINAL)
        self.padding_side = tokenizer.padding_side
        self.pad_token_id = tokenizer.pad_token_id
        self.pad_token_type_id = tokenizer.pad_token_type_id

    def get_vocab(self) -> dict[str, int]:
        """Return the number of each token."""
        known: dict[str, int] = self.tokenizer.get_vocab()
        return known

    def hidden(self, encoded: Mapping[str, Any]) -> dict[str, Any]:
        """Hide tokens of encoded rows: a list of numbers for each row, for each input."""
        rows = [self.masks.of_row(ids) for ids in encoded["input_ids"]]
        return dict(encoded) | {
            "input_ids": [ids.tolist() for ids, _ in rows],
            CHOSEN: [chosen.tolist() for _, chosen in rows],
            ORIGINAL: encoded["input_ids"],
        }


@dataclass(frozen=True)
class FreshMasks:
    """Hides other tokens of training rows in each epoch.

    Attributes:
        masks: Chooses and changes tokens.
        seed: Seed of the recipe.
    """

    masks: Masks
    seed: int

    def __call__(
        self, inputs: dict[str, Tensor], rows: NDArray[np.int64], epoch: int
    ) -> dict[str, Tensor]:
        """Return the inputs of a batch with tokens hidden as seed, epoch and row alone say.

        Args:
            inputs: int64 [rows, tokens] of each input of the model.
            rows: Indices of the examples.
            epoch: The epoch, from 0.
        """
        ids, inside = inputs[ORIGINAL].numpy().copy(), inputs[_SHOWN].numpy() == 1
        chosen = np.zeros_like(ids)
        for place, row in enumerate(rows.tolist()):
            rng, own = np.random.default_rng((self.seed, epoch, row)), inside[place]
            ids[place, own], chosen[place, own] = self.masks.hide(ids[place, own], rng)
        return inputs | {"input_ids": torch.from_numpy(ids), CHOSEN: torch.from_numpy(chosen)}
