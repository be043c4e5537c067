"""Tokens of rows from several places, read as one, without copying any."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from springtide_trainer.artifact.tokens import EXACT, Tokens

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from springtide_trainer.artifact.tokens import Widths


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
    """The rows of each part, one part after the other; all of one tokenizer."""

    parts: Sequence[Tokens]

    @staticmethod
    def of(*given: TokenRows) -> JoinedTokens:
        """Join rows, of which some may be joined already.

        Raises:
            TypeError: some have more than tokens.
        """
        parts: list[Tokens] = []
        for each in given:
            match each:
                case JoinedTokens():
                    parts += each.parts
                case Tokens():
                    parts.append(each)
                case _:
                    raise TypeError(f"{type(each).__name__} cannot be joined")
        return JoinedTokens(parts)

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row: int64 [rows]."""
        return np.concatenate([part.lengths for part in self.parts])

    @cached_property
    def _first(self) -> NDArray[np.int64]:
        """The first row of each part, and the number of rows: int64 [parts + 1]."""
        return np.cumsum([0, *(len(part.starts) - 1 for part in self.parts)], dtype=np.int64)

    def sums(self, name: str) -> NDArray[np.int64]:
        """Add up a model input over the tokens of each row: int64 [rows]."""
        return np.concatenate([part.sums(name) for part in self.parts])

    def batch(
        self, rows: Sequence[int] | NDArray[np.int64], widths: Widths = EXACT
    ) -> dict[str, Tensor]:
        """Pad these rows to one width: int64 [rows, tokens] for each model input.

        Only parts that have some of these rows are read.
        """
        chosen = np.asarray(rows, dtype=np.int64)
        order = np.argsort(chosen, kind="stable")
        ascending = chosen[order]
        first = self._first
        cuts = np.searchsorted(ascending, first)
        found = [
            self.parts[part].of_rows(ascending[cuts[part] : cuts[part + 1]] - first[part])
            for part in np.flatnonzero(np.diff(cuts)).tolist()
        ]
        values = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
        made = self.parts[0].padded(values, self.lengths[ascending], widths)
        place = torch.from_numpy(np.argsort(order))
        return {name: each[place] for name, each in made.items()}
