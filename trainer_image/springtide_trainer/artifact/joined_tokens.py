"""Tokens of rows from two places, read as one, without copying either."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from springtide_trainer.artifact.tokens import EXACT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from springtide_trainer.artifact.tokens import Tokens, Widths


class TokenRows(Protocol):
    """Tokenized rows."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row: int64 [rows]."""

    def sums(self, name: str) -> NDArray[np.int64]:
        """Add up a model input over the tokens of each row: int64 [rows]."""

    def batch(
        self, rows: Sequence[int] | NDArray[np.int64], widths: Widths = EXACT
    ) -> dict[str, Tensor]:
        """Pad these rows to one width: int64 [rows, tokens] for each model input."""


@dataclass(frozen=True)
class JoinedTokens:
    """Rows of `first`, then rows of `second`; both of one tokenizer."""

    first: TokenRows
    second: Tokens

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row: int64 [rows]."""
        return np.concatenate([self.first.lengths, self.second.lengths])

    def sums(self, name: str) -> NDArray[np.int64]:
        """Add up a model input over the tokens of each row: int64 [rows]."""
        return np.concatenate([self.first.sums(name), self.second.sums(name)])

    def batch(
        self, rows: Sequence[int] | NDArray[np.int64], widths: Widths = EXACT
    ) -> dict[str, Tensor]:
        """Pad these rows to one width: int64 [rows, tokens] for each model input."""
        chosen = np.asarray(rows, dtype=np.int64)
        begin = len(self.first.lengths)
        later = chosen >= begin
        parts = [(self.first, ~later, chosen[~later]), (self.second, later, chosen[later] - begin)]
        found = [(mask, each.batch(own, widths)) for each, mask, own in parts if len(own)]
        if len(found) == 1:
            return found[0][1]
        width = max(batch["attention_mask"].shape[1] for _, batch in found)
        joined: dict[str, Tensor] = {}
        for name in found[0][1]:
            padding = self.second.padding.get(name, 0)
            joined[name] = torch.full((len(chosen), width), padding, dtype=torch.int64)
            for mask, batch in found:
                own = batch[name]
                place = (
                    slice(width - own.shape[1], None)
                    if self.second.pad_left
                    else slice(own.shape[1])
                )
                joined[name][torch.from_numpy(mask), place] = own
        return joined
