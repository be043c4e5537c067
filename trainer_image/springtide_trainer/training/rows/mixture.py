"""The mixture of sources that a run is trained on: new rows, and rows that are replayed.

Each source is shuffled on its own and spread evenly over the epoch, so every part of an epoch has
the same mixture. Each source has the same mean weight, so it counts by its number of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Mixture:
    """The sources of the units of an epoch.

    Attributes:
        source: int64 [n], the number of the source of each unit.
    """

    source: NDArray[np.int64]

    @staticmethod
    def of(replayed: NDArray[np.bool_]) -> Mixture:
        """Return the mixture of new units, and of units that are replayed."""
        return Mixture(replayed.astype(np.int64))

    def order(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Return the indices of the units in the order of an epoch. One source: a permutation."""
        known = range(int(self.source.max(initial=0)) + 1)
        parts = [rng.permutation(np.flatnonzero(self.source == one)) for one in known]
        places = [(np.arange(len(part)) + 0.5) / max(1, len(part)) for part in parts]
        return np.concatenate(parts)[np.argsort(np.concatenate(places), kind="stable")]
