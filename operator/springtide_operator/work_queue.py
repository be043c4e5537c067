"""A keyed work queue that de-duplicates, delays, backs off and is fair to namespaces.

`RateLimitingQueue` is plain data and is handed the time; `WorkQueue` runs the work on it. One key
is worked on by one worker at a time; a key that is added during its work runs once more.
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


class NamespacedName(NamedTuple):
    """An update, by namespace and name; it may not exist."""

    namespace: str
    name: str


@dataclass
class _Entry:
    due: float | None = None
    """When it should run; None while no run is requested."""
    ready_since: float | None = None
    """When it became ready."""
    running: bool = False
    failures: int = 0
    next_slot: float = float("-inf")
    """Theoretical arrival time of its rate (GCRA)."""
    not_before: float = float("-inf")
    """No run before this time: the server's Retry-After."""


@dataclass
class RateLimitingQueue:
    """The order of work, without any clock of its own.

    Args:
        interval: seconds between two runs of one key in the long run.
        burst: runs of one key that may follow each other at once.
        max_backoff: longest back-off, seconds.
        jitter: returns a random number between its two arguments.
    """

    interval: float = 0.1
    burst: int = 20
    max_backoff: float = 300.0
    jitter: Callable[[float, float], float] = random.uniform
    _entries: dict[NamespacedName, _Entry] = field(default_factory=dict)
    _delayed: list[tuple[float, int, NamespacedName]] = field(default_factory=list)
    _ready: OrderedDict[str, deque[NamespacedName]] = field(default_factory=OrderedDict)
    _order: itertools.count[int] = field(default_factory=itertools.count)

    def add(self, key: NamespacedName, now: float, *, after: float = 0.0) -> None:
        """Request a run in `after` seconds; of several requests the earliest counts."""
        entry = self._entries.setdefault(key, _Entry())
        due = now + after
        if entry.ready_since is not None or (entry.due is not None and entry.due <= due):
            return
        entry.due = due
        if not entry.running:
            heapq.heappush(self._delayed, (self._ready_at(entry), next(self._order), key))

    def pop(self, now: float) -> NamespacedName | None:
        """Return the next due key, the namespaces in turn; call `done` or `failed` with it."""
        self._promote_due(now)
        if not self._ready:
            return None
        namespace, keys = self._ready.popitem(last=False)
        key = keys.popleft()
        if keys:
            self._ready[namespace] = keys  # to the end: the others first
        entry = self._entries[key]
        entry.ready_since, entry.running = None, True
        entry.next_slot = max(entry.next_slot, now) + self.interval
        return key

    def done(self, key: NamespacedName, now: float, *, requeue_after: float | None) -> None:
        """Report a successful run, and when the next one is requested; None: no request."""
        entry = self._entries[key]
        entry.failures, entry.not_before = 0, float("-inf")
        self._finish(key, entry, now, requeue_after)

    def failed(
        self,
        key: NamespacedName,
        now: float,
        *,
        retry_after: float = 0.0,
        max_backoff: float | None = None,
    ) -> float:
        """Report a run to be repeated, and return in how many seconds: full jitter, 1 s doubled.

        Args:
            key: what was run.
            now: seconds of the clock.
            retry_after: the server's Retry-After; no event makes the key run sooner.
            max_backoff: longest back-off of this failure, where it is shorter than that of all.
        """
        entry = self._entries[key]
        ceiling = min(max_backoff or self.max_backoff, 2.0 ** min(entry.failures, 16))
        entry.failures += 1
        entry.not_before = now + retry_after
        wait = retry_after + self.jitter(0.1, ceiling)
        self._finish(key, entry, now, wait)
        return wait

    def next_due(self, now: float) -> float | None:
        """Return the seconds until a key is due; None where nothing waits."""
        self._promote_due(now)
        if self._ready:
            return 0.0
        return max(0.0, self._delayed[0][0] - now) if self._delayed else None

    def depth(self) -> int:
        """Return how many keys wait to run now."""
        return sum(map(len, self._ready.values()))

    def oldest(self, now: float) -> float:
        """Return for how many seconds the longest waiting key has been ready."""
        waiting = (self._entries[keys[0]].ready_since for keys in self._ready.values())
        return max(
            (now - ready_since for ready_since in waiting if ready_since is not None), default=0.0
        )

    def _ready_at(self, entry: _Entry) -> float:
        due = entry.due if entry.due is not None else 0.0
        return max(due, entry.not_before, entry.next_slot - self.interval * (self.burst - 1))

    def _promote_due(self, now: float) -> None:
        while self._delayed and self._delayed[0][0] <= now:
            _, _, key = heapq.heappop(self._delayed)
            entry = self._entries.get(key)
            if entry is None or entry.running or entry.due is None or self._ready_at(entry) > now:
                continue  # superseded by an earlier request
            entry.due, entry.ready_since = None, now
            self._ready.setdefault(key.namespace, deque()).append(key)

    def _finish(
        self, key: NamespacedName, entry: _Entry, now: float, requeue_after: float | None
    ) -> None:
        entry.running = False
        later = None if requeue_after is None else now + requeue_after
        requests = [request for request in (entry.due, later) if request is not None]
        if not requests:
            del self._entries[key]
            return
        entry.due = min(requests)
        heapq.heappush(self._delayed, (self._ready_at(entry), next(self._order), key))


@dataclass(frozen=True)
class ReconcileResult:
    """The outcome of one run: whether it failed, and in how many seconds to run again.

    `requeue_after` None after a run without failure: the key is dropped until it is added again.
    After a failure, `max_backoff` is the longest back-off; None: that of the queue. `other_keys`
    are keys to run, too, and in how many seconds.
    """

    requeue_after: float | None
    failed: bool = False
    max_backoff: float | None = None
    other_keys: Mapping[NamespacedName, float] = field(default_factory=dict)


class WorkQueue:
    """Runs the work on the queue with a bounded number of workers."""

    def __init__(
        self,
        work: Callable[[NamespacedName], Awaitable[ReconcileResult]],
        queue: RateLimitingQueue,
        *,
        workers: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work = work
        self._queue = queue
        self._workers = workers
        self._monotonic = monotonic
        self._running: dict[NamespacedName, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()

    def add(self, key: NamespacedName, *, after: float = 0.0) -> None:
        """Request a run of the key in `after` seconds."""
        self._queue.add(key, self._monotonic(), after=after)
        self._changed.set()

    def depth(self) -> int:
        """Return how many keys wait for a worker."""
        return self._queue.depth()

    def oldest(self) -> float:
        """Return for how many seconds the longest waiting key has waited for a worker."""
        return self._queue.oldest(self._monotonic())

    async def run(self) -> None:
        """Start work until cancelled; running work continues, see `drain`."""
        while True:
            self._changed.clear()
            due: float | None = None
            while len(self._running) < self._workers:
                key = self._queue.pop(self._monotonic())
                if key is None:
                    due = self._queue.next_due(self._monotonic())
                    break
                task = asyncio.create_task(self._run_one(key), name=f"reconcile {key}")
                self._running[key] = task
            # Not wait_for: on Python 3.11 it loses a cancellation that comes with a wake-up.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(due):
                    await self._changed.wait()

    async def drain(self, seconds: float) -> None:
        """Let running work finish for this time, then cancel it. Call after `run` was cancelled."""
        running = set(self._running.values())
        if not running:
            return
        _, late = await asyncio.wait(running, timeout=seconds)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    async def _run_one(self, key: NamespacedName) -> None:
        outcome = ReconcileResult(None, failed=True)
        try:
            outcome = await self._work(key)
        finally:  # the key must be reported in any case
            now = self._monotonic()
            if outcome.failed:
                self._queue.failed(
                    key,
                    now,
                    retry_after=outcome.requeue_after or 0.0,
                    max_backoff=outcome.max_backoff,
                )
            else:
                self._queue.done(key, now, requeue_after=outcome.requeue_after)
            del self._running[key]
            for other, after in outcome.other_keys.items():
                self._queue.add(other, now, after=after)
            self._changed.set()
