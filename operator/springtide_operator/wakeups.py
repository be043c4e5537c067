"""Whose turn it is: a keyed queue that de-duplicates, delays, backs off and is fair to namespaces.

`Queue` is plain data and is handed the time; `Wakeups` runs the work on it. One key is worked on by
one worker at a time; a wake-up during its work makes it run once more.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping


class Key(NamedTuple):
    """An update, by place; it may not exist."""

    namespace: str
    name: str


@dataclass
class _Entry:
    due: float | None = None
    """When it should run; None while nothing asks for it."""
    since: float | None = None
    """When it became ready."""
    running: bool = False
    failures: int = 0
    allowed: float = float("-inf")
    """Theoretical arrival time of its rate (GCRA)."""
    barred: float = float("-inf")
    """Until when the server asked to be left alone, whatever happens meanwhile."""


@dataclass
class Queue:
    """The order of work, without any clock of its own.

    Args:
        gap: seconds between two runs of one key in the long run.
        burst: runs of one key that may follow each other at once.
        slowest: longest back-off, seconds.
        jitter: returns a random number between its two arguments.
    """

    gap: float = 0.1
    burst: int = 20
    slowest: float = 300.0
    jitter: Callable[[float, float], float] = random.uniform
    _entries: dict[Key, _Entry] = field(default_factory=dict)
    _delayed: list[tuple[float, int, Key]] = field(default_factory=list)
    _ready: OrderedDict[str, deque[Key]] = field(default_factory=OrderedDict)
    _order: itertools.count[int] = field(default_factory=itertools.count)

    def add(self, key: Key, now: float, *, after: float = 0.0) -> None:
        """Ask for a run in `after` seconds; of several wishes the earliest counts."""
        entry = self._entries.setdefault(key, _Entry())
        due = now + after
        if entry.since is not None or (entry.due is not None and entry.due <= due):
            return
        entry.due = due
        if not entry.running:
            heapq.heappush(self._delayed, (self._start(entry), next(self._order), key))

    def take(self, now: float) -> Key | None:
        """Hand out the next key that is due, the namespaces in turn; `done` or `failed` it."""
        self._ripen(now)
        if not self._ready:
            return None
        namespace, keys = self._ready.popitem(last=False)
        key = keys.popleft()
        if keys:
            self._ready[namespace] = keys  # to the end: the others first
        entry = self._entries[key]
        entry.since, entry.running = None, True
        entry.allowed = max(entry.allowed, now) + self.gap
        return key

    def done(self, key: Key, now: float, *, again: float | None) -> None:
        """Report a run that went well, and when the next one is wanted; None: no wish."""
        entry = self._entries[key]
        entry.failures, entry.barred = 0, float("-inf")
        self._finish(key, entry, now, again)

    def failed(
        self, key: Key, now: float, *, at_least: float = 0.0, slowest: float | None = None
    ) -> float:
        """Report a run to be repeated, and return in how many seconds: full jitter, 1 s doubled.

        Args:
            key: what was run.
            now: seconds of the clock.
            at_least: the server's Retry-After; no wake-up makes the key run sooner.
            slowest: longest back-off of this failure, where it is shorter than that of all.
        """
        entry = self._entries[key]
        ceiling = min(slowest or self.slowest, 2.0 ** min(entry.failures, 16))
        entry.failures += 1
        entry.barred = now + at_least
        wait = at_least + self.jitter(0.1, ceiling)
        self._finish(key, entry, now, wait)
        return wait

    def next_due(self, now: float) -> float | None:
        """Return the seconds until a key is due; None where nothing waits."""
        self._ripen(now)
        if self._ready:
            return 0.0
        return max(0.0, self._delayed[0][0] - now) if self._delayed else None

    def depth(self) -> int:
        """Return how many keys wait to run now."""
        return sum(map(len, self._ready.values()))

    def oldest(self, now: float) -> float:
        """Return for how many seconds the longest waiting key has been ready."""
        waiting = (self._entries[keys[0]].since for keys in self._ready.values())
        return max((now - since for since in waiting if since is not None), default=0.0)

    def _start(self, entry: _Entry) -> float:
        due = entry.due if entry.due is not None else 0.0
        return max(due, entry.barred, entry.allowed - self.gap * (self.burst - 1))

    def _ripen(self, now: float) -> None:
        while self._delayed and self._delayed[0][0] <= now:
            _, _, key = heapq.heappop(self._delayed)
            entry = self._entries.get(key)
            if entry is None or entry.running or entry.due is None or self._start(entry) > now:
                continue  # an older wish, overtaken by an earlier one
            entry.due, entry.since = None, now
            self._ready.setdefault(key.namespace, deque()).append(key)

    def _finish(self, key: Key, entry: _Entry, now: float, again: float | None) -> None:
        entry.running = False
        later = None if again is None else now + again
        wishes = [wish for wish in (entry.due, later) if wish is not None]
        if not wishes:
            del self._entries[key]
            return
        entry.due = min(wishes)
        heapq.heappush(self._delayed, (self._start(entry), next(self._order), key))


@dataclass(frozen=True)
class Again:
    """The outcome of one run: in how many seconds to run anew, and whether it failed.

    `after` None after a run that went well: the key is forgotten until somebody adds it.
    After one that failed, `slowest` is the longest back-off; None: the queue's own. `others` are
    keys to run, too, and in how many seconds.
    """

    after: float | None
    failed: bool = False
    slowest: float | None = None
    others: Mapping[Key, float] = field(default_factory=dict)


class Wakeups:
    """Runs the work on the queue with a bounded number of workers."""

    def __init__(
        self,
        work: Callable[[Key], Awaitable[Again]],
        queue: Queue,
        *,
        workers: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = work
        self._queue = queue
        self._workers = workers
        self._monotonic = monotonic
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    def add(self, key: Key, *, after: float = 0.0) -> None:
        """Ask for a run of the key in `after` seconds."""
        self._queue.add(key, self._monotonic(), after=after)
        self._changed.set()

    def depth(self) -> int:
        """Return how many keys wait for a worker."""
        return self._queue.depth()

    def oldest(self) -> float:
        """Return for how many seconds the longest waiting key has waited for a worker."""
        return self._queue.oldest(self._monotonic())

    async def run(self) -> None:
        """Hand out work until cancelled; what runs then goes on, see `drain`."""
        while True:
            self._changed.clear()
            due: float | None = None
            while len(self._running) < self._workers:
                key = self._queue.take(self._monotonic())
                if key is None:
                    due = self._queue.next_due(self._monotonic())
                    break
                task = asyncio.create_task(self._one(key), name=f"reconcile {key}")
                self._running[key] = task
            # Not wait_for: on Python 3.11 it loses a cancellation that comes with a wake-up.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due):
                    await self._changed.wait()

    async def drain(self, seconds: float) -> None:
        """Let what runs finish for so long, then drop it. Call it after `run` was cancelled."""
        running = set(self._running.values())
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _one(self, key: Key) -> None:
        outcome = Again(None, failed=True)
        try:
            outcome = await self._work(key)
        finally:  # whatever came of it, the key must not stay with nobody
            now = self._monotonic()
            if outcome.failed:
                self._queue.failed(key, now, at_least=outcome.after or 0.0, slowest=outcome.slowest)
            else:
                self._queue.done(key, now, again=outcome.after)
            del self._running[key]
            for other, after in outcome.others.items():
                self._queue.add(other, now, after=after)
            self._changed.set()
