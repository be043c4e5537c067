"""A notifier that sends to a sink, and what it counts."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from ports.notices import NOON, SHOP, notification, outbox

from springtide_operator.ports.notifier import Notifier, Sink


class Sending:
    """A running notifier, with what it counts and how long it waits."""

    def __init__(self, url: str, **sink: Any) -> None:
        self.outbox, self.dropped = outbox()
        self.delivered = 0
        self.failed: Counter[str] = Counter()
        self.waits: list[float] = []
        self.in_a_row: list[int] = []
        self.notifier = Notifier(
            Sink(url, **sink),
            self.outbox,
            count_delivered=self._count,
            count_failed=lambda word: self.failed.update([word]),
            backoff=self._backoff,
            sleep=self._sleep,
        )
        self.task = asyncio.create_task(self.notifier.run())

    def send(self, *numbers: int, **changes: object) -> None:
        self.outbox.offer(SHOP, [notification(n, **changes) for n in numbers], NOON)

    def _count(self) -> None:
        self.delivered += 1

    def _backoff(self, failures: int) -> float:
        self.in_a_row.append(failures)
        return 0.0

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)
