"""Limits on requests to the API server: requests per second, and requests in flight."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class Limits:
    """A rate with a burst, and a limit of requests in flight. Watches are not counted."""

    def __init__(
        self,
        *,
        per_second: float = 200.0,
        burst: int = 400,
        in_flight: int = 20,
        monotonic: Callable[[], float],
    ) -> None:
        self._gap = 1.0 / per_second
        self._slack = self._gap * (burst - 1)
        self._slots = asyncio.Semaphore(in_flight)
        self._monotonic = monotonic
        self._next = float("-inf")

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for one of the places in flight, at the permitted rate."""
        async with self._slots:
            now = self._monotonic()
            self._next = max(self._next, now - self._slack) + self._gap
            if (wait := self._next - self._gap - now) > 0:
                await asyncio.sleep(wait)
            yield
