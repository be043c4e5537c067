"""The time of the API server: its Date headers continued by the local monotonic clock.

Neither a jump nor a skew of the machine's own clock can cause a timeout.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@lru_cache(maxsize=4)
def _moment(date: str) -> float:
    """Read a Date; all answers of one second carry the same."""
    return parsedate_to_datetime(date).timestamp()


class ServerClock:
    """Estimates the server's time, more precisely with every answer than the seconds of a Date."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._low: float | None = None
        self._high = 0.0

    @property
    def known(self) -> bool:
        """Whether the time is known from an answer."""
        return self._low is not None

    def learn(self, date: str, *, sent: float, received: float) -> None:
        """Learn from one answer.

        Args:
            date: the header Date, whole seconds, cut off.
            sent: monotonic seconds just before the request left.
            received: monotonic seconds when the headers of the answer arrived.
        """
        try:
            moment = _moment(date)
        except ValueError:
            return  # ignore a malformed header of a proxy
        low, high = moment - received, moment + 1.0 - sent
        if self._low is not None and low <= self._high and high >= self._low:
            low, high = max(low, self._low), min(high, self._high)
        self._low, self._high = low, high

    def now(self) -> datetime:
        """Return the server's time, UTC, in whole seconds as the Kubernetes API writes it.

        Raises:
            RuntimeError: no answer came yet.
        """
        if self._low is None:
            raise RuntimeError("the API server's time is not known before its first answer")
        return datetime.fromtimestamp(int(self._monotonic() + self._low), UTC)
