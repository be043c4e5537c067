"""Whether the operator does its work, not only whether it answers.

It is unhealthy when a kind got no answer for too long, when work waits too long for a worker,
or when the event loop lags. A server that is down for all kinds is no reason for a restart.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SILENCE_SECONDS = 180.0
"""A watch that was cut off is resumed within 75 s."""
STUBBORN_SECONDS = 900.0
"""A kind that alone keeps failing, with a known error: a restart seldom helps."""

QUEUE_SECONDS = 120.0
LAG_SECONDS = 10.0


@dataclass(frozen=True)
class Health:
    """Measurements of the operator itself, in seconds except for the depth.

    Args:
        silence: by kind, since the API server last answered about it; 0: it was not asked yet.
        unreachable: by kind, the last error; empty after a success.
        depth: keys that wait for a worker.
        oldest: how long the oldest of them has waited.
        lag: how late the event loop was last.
    """

    silence: Mapping[str, float]
    unreachable: Mapping[str, str]
    depth: int
    oldest: float
    lag: float

    def problems(self) -> list[str]:
        """Return why a restart may help; empty: healthy, or a restart would not help."""
        found = []
        asked = [kind for kind, age in self.silence.items() if age]
        all_failing = all(self.unreachable.get(kind) for kind in asked)
        for kind, age in self.silence.items():
            limit = STUBBORN_SECONDS if self.unreachable.get(kind) else SILENCE_SECONDS
            if age > limit and not all_failing:
                found.append(f"no answer about {kind} for {age:.0f} s (limit {limit:.0f})")
        if self.oldest > QUEUE_SECONDS and not all_failing:
            found.append(f"updates wait for {self.oldest:.0f} s (limit {QUEUE_SECONDS:.0f})")
        if self.lag > LAG_SECONDS:
            found.append(f"the event loop is {self.lag:.1f} s late (limit {LAG_SECONDS:.0f})")
        return found


@dataclass
class LoopMonitor:
    """Measures how late the event loop is."""

    interval: float = 1.0
    _due: float = 0.0
    _last: float = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            self._due = time.monotonic() + self.interval
            await asyncio.sleep(self.interval)
            self._last = max(0.0, time.monotonic() - self._due)

    def lag(self) -> float:
        """Return the last lateness, or the present one where it is worse."""
        now = time.monotonic()
        return max(self._last, now - self._due) if self._due else 0.0
