"""Notifications that wait to be sent, in memory: whoever adds one never waits.

A fact is offered at every reconcile and queued once. What an operator that ended had not delivered
is lost with its memory; so facts of the last `repeat` before the start are queued again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime, timedelta

    from springtide_operator.lifecycle.state.plan import Notification

CAPACITY = 10_000

KEPT_SECONDS = 24 * 3600.0
"""What could not be delivered for so long is dropped."""

REMEMBERED = 32
"""Objects of an update that are remembered beside those of its newest offer."""

LOG_SECONDS = 60.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Waiting:
    """A notification, and since when it waits, in seconds of the clock."""

    notification: Notification
    since: float


@dataclass
class Outbox:
    """The queue between reconciles and the sender.

    Args:
        repeat: facts so much older than the first offer are queued, though not new.
        count_dropped: called with the reason for each notification that is dropped.
        capacity: most that wait; beyond it the oldest is dropped.
        monotonic: seconds of a clock.
    """

    repeat: timedelta
    count_dropped: Callable[[str], None]
    capacity: int = CAPACITY
    monotonic: Callable[[], float] = time.monotonic
    _queue: deque[Waiting] = field(default_factory=deque)
    _known: dict[tuple[str, str], dict[str, set[str]]] = field(default_factory=dict)
    """Facts that were queued or are too old, by update and object."""
    _since: datetime | None = None
    _added: asyncio.Event = field(default_factory=asyncio.Event)
    _logged: float = float("-inf")

    def offer(
        self, update: tuple[str, str], notifications: Iterable[Notification], now: datetime
    ) -> None:
        """Queue what is new among all recorded facts of an update.

        Of an object that was not offered before, only facts from the last `repeat` are new.

        Args:
            update: namespace and name.
            notifications: all that follow from its recorded facts, the oldest first.
            now: the moment.
        """
        if self._since is None:
            self._since = now - self.repeat
        offered, known = tuple(notifications), self._known.setdefault(update, {})
        before = frozenset(known)
        for uid in {each.uid: None for each in offered}:
            known[uid] = known.pop(uid, set())  # to the end: the others are forgotten first
        for each in offered:
            recent = each.at is not None and each.at >= self._since
            if each.fact not in known[each.uid] and (each.uid in before or recent):
                self._append(Waiting(each, self.monotonic()))
            known[each.uid].add(each.fact)
        for uid in list(known)[: -len({each.uid for each in offered}) - REMEMBERED]:
            del known[uid]

    def forget(self, update: tuple[str, str]) -> None:
        """Forget which facts of an update were offered: it is gone."""
        self._known.pop(update, None)

    async def next(self) -> Waiting:
        """Wait for the oldest and take it out."""
        while True:
            while self._queue:
                first = self._queue.popleft()
                if self.monotonic() - first.since < KEPT_SECONDS:
                    return first
                self.drop(first.notification, "expired")
            self._added.clear()
            await self._added.wait()

    def put_back(self, undelivered: Waiting) -> None:
        """Queue at the end what could not be delivered, so that it does not stop the others."""
        self._append(undelivered)

    def waiting(self) -> int:
        """Return how many wait."""
        return len(self._queue)

    def drop(self, notification: Notification, reason: str) -> None:
        """Count and log one that will not be delivered."""
        self.count_dropped(reason)
        now = self.monotonic()
        if now - self._logged >= LOG_SECONDS:  # a flood must not flood the log
            self._logged = now
            log.warning("notification dropped", reason=reason, id=notification.id)

    def _append(self, waiting: Waiting) -> None:
        if len(self._queue) >= self.capacity:
            self.drop(self._queue.popleft().notification, "full")
        self._queue.append(waiting)
        self._added.set()
