"""When the API server last answered about a kind, and why it does not answer now."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass
class WatchHealth:
    """The state of the requests for one kind."""

    last_error: str = ""
    """Of the last request; empty after one that was answered."""
    failures: int = 0
    """In a row."""
    _last_answer: float | None = None

    def begin(self) -> None:
        """Start to count."""
        self._last_answer = time.monotonic()

    def succeeded(self) -> None:
        """Record an answer, an event or a bookmark."""
        self._last_answer = time.monotonic()
        self.last_error = ""
        self.failures = 0

    def failed(self, error: str) -> None:
        """Record a request without a usable answer; the error is empty for a silent watch."""
        self.last_error = error
        self.failures += 1

    def age(self) -> float:
        """Return the seconds since the last answer, or since the start; 0 before the start."""
        return time.monotonic() - self._last_answer if self._last_answer is not None else 0.0
