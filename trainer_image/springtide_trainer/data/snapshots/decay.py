"""Decay of rows by the time of their events, so that newer rows are more likely in a sample.

Forward decay (Cormode, Shkapenyuk, Srivastava and Xu, 2009): a row counts twice as much for each
half-life from a fixed moment to its time. So its key never changes and no clock is read: keys are
comparable from buffer to buffer, and do not depend on how windows are cut. They are logarithms,
because such weights exceed any floating-point number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from springtide_api.schema import duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from springtide_api.update.retention import Replay

    Floats = NDArray[np.float64]

_HOUR = timedelta(hours=1)
_MICROSECONDS = 3_600_000_000
_DIGITS = 6
"""Decimals of a bound: equal on CPUs whose logarithms differ in the last bit."""
_CERTAIN = 40.0
"""Above 2 to this power, a chance is 1; below its inverse, it is proportional."""


@dataclass(frozen=True)
class Limits:
    """What a sample was cut off at.

    Attributes:
        below: Rows with a key above this one were left out, by keys without decay.
        decayed: The same by keys with decay, for each half-life (hours) that was used.
    """

    below: float = math.inf
    decayed: Mapping[float, float] = field(default_factory=dict)

    @staticmethod
    def of(manifest: Mapping[str, Any]) -> Limits:
        """Read them from the manifest of a buffer."""
        below, decayed = manifest["below"], manifest.get("decayed", [])
        return Limits(
            math.inf if below is None else below,
            {each["hours"]: each["below"] for each in decayed},
        )

    def plain(self) -> dict[str, Any]:
        """Return the entries of a manifest."""
        found: dict[str, Any] = {"below": self.below if math.isfinite(self.below) else None}
        if self.decayed:
            found["decayed"] = [
                {"hours": hours, "below": below} for hours, below in sorted(self.decayed.items())
            ]
        return found

    def lowered(self, half_life: float | None, below: float, times: Floats) -> Limits:
        """Return the limits of a sample of this sample and new rows.

        Those by another half-life are dropped once no row of the sample is near them.

        Args:
            half_life: Half-life (hours) of the keys; None: without decay.
            below: The lowest key that was left out.
            times: float64 [rows], times of the rows in the sample.
        """
        if half_life is None and not self.decayed:
            return Limits(min(self.below, below))
        if half_life is not None:
            known = self.decayed.get(half_life, math.inf)
            below = min(known, round(below, _DIGITS) if math.isfinite(below) else below)
        new = Limits(decayed={half_life: below}) if half_life else Limits(min(self.below, below))
        reach = new.reach(times)
        kept = {
            hours: key
            for hours, key in self.decayed.items()
            if hours != half_life and (Limits(decayed={hours: key}).reach(times) < reach).any()
        }
        if half_life is None:
            return Limits(new.below, kept)
        undecayed = self.below if (Limits(self.below).reach(times) < reach).any() else math.inf
        return Limits(undecayed, kept | ({half_life: below} if math.isfinite(below) else {}))

    def reach(self, times: Floats) -> Floats:
        """Return up to which key without decay rows of these times are in: log2, float64 [rows]."""
        found = np.full(len(times), math.log2(self.below))
        for hours, below in self.decayed.items():
            found = np.minimum(found, below + times / hours)
        return found


@dataclass(frozen=True)
class Decay:
    """How keys decay.

    Attributes:
        times: float64 [rows], hours since 1970.
        half_life: Hours; infinite: no decay.
        limits: What the rows are a sample by.
    """

    times: Floats
    half_life: float
    limits: Limits = field(default_factory=Limits)

    def keys(self, key: Floats, weight: Floats, unit: NDArray[np.int64]) -> Floats:
        """Return the keys of units, as logarithms (base 2).

        Args:
            key: float64 [units], keys of units of weight 1.
            weight: float64 [units].
            unit: int64 [rows]; the newest row of a unit counts.
        """
        newest = np.full(len(key), -math.inf)
        np.maximum.at(newest, unit, self.times)
        # The chance with which each is in the sample: Horvitz and Thompson, 1952.
        reach = np.log2(weight) + self.limits.reach(newest)
        certain = np.log2(-np.expm1(-np.exp2(np.clip(reach, -_CERTAIN, _CERTAIN))))
        chance = np.where(reach < -_CERTAIN, reach, certain)
        return np.asarray(np.log2(key / weight) - newest / self.half_life + chance)


def half_life_of(replay: Replay) -> float | None:
    """Return the half-life in hours; None without decay."""
    return None if replay.half_life is None else duration(replay.half_life) / _HOUR


def times_of(table: pa.Table) -> Floats:
    """Return the times of rows: float64 [rows], hours since 1970."""
    found: Floats = table["timestamp"].cast(pa.int64()).to_numpy() / _MICROSECONDS
    return found


def decay_of(table: pa.Table, replay: Replay, limits: Limits | None = None) -> Decay | None:
    """Return how the keys of rows decay; None if they do not, and are not a sample that did.

    Args:
        table: The rows.
        replay: The half-life.
        limits: What the rows are a sample by. None: their keys are those of the sample itself.
    """
    half_life = half_life_of(replay)
    if half_life is None and not (limits and limits.decayed):
        return None
    known = math.inf if half_life is None else half_life
    return Decay(times_of(table), known, limits or Limits())
