"""Keeps one kind of the cache complete: list, watch with bookmarks, list again after a gap.

Every way in which a watch can fail (an ERROR, 410, silence, a restart of the server) ends in
continuing from the last known version or in a list that replaces the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import version
from springtide_operator.cluster.watching.watch_health import WatchHealth

if TYPE_CHECKING:
    from collections.abc import Callable

    from springtide_operator.cluster.api.client import Client
    from springtide_operator.cluster.api.kinds import Kind, Raw
    from springtide_operator.cluster.watching.cache import Store

WATCH_SECONDS = (40, 55)
"""The server ends a watch after this time. A silent one is abandoned 10 s later and
followed by a list, so that every change is handled within 75 s."""

FAILURES_BEFORE_LIST = 3
"""After this many failures of a watch in a row the kind is listed again."""

SHORTEST_WATCH = 1.0
"""Seconds: a watch that ends sooner without an event counts as a failure."""

log = structlog.get_logger(__name__)


@dataclass
class Reflector:
    """Fills one store from one kind.

    Args:
        client: reads only.
        kind: what to watch.
        store: what to fill.
        changed: called with every object that changed, appeared or is gone.
        namespace: empty: all.
        labels: selector; empty: all.
        backoff: longest wait after a failure, seconds.
    """

    client: Client
    kind: Kind
    store: Store
    changed: Callable[[Kind, Raw], None]
    namespace: str = ""
    labels: str = ""
    backoff: float = 30.0
    watch_health: WatchHealth = field(default_factory=WatchHealth)
    _listed: bool = False

    async def run(self) -> None:
        """Reflect until cancelled."""
        self.watch_health.begin()
        while True:
            try:
                await self._reflect()
            except errors.Gone:
                log.info("watch is too old, listing again", kind=self.kind.name)
                self._listed = False
                await asyncio.sleep(random.uniform(0, 0.5))
            except errors.Timeout:
                # The next watch may be silent too: only a list reports everything.
                log.info("watch went silent, listing again", kind=self.kind.name)
                self._listed = False
                await self._pause("")
            except errors.ApiError as error:
                await self._failed(error)

    async def _reflect(self) -> None:
        """List if necessary, then watch until the watch ends."""
        if not self._listed:
            await self._list()
        await self._watch()

    async def _failed(self, error: errors.ApiError) -> None:
        """Wait after a request that failed."""
        await self._pause(str(error), at_least=error.retry_after or 0.0)

    async def _list(self) -> None:
        listed = await self.client.list_all(
            self.kind, self.namespace, labels=self.labels, within=lambda: self.store.namespaces
        )
        self._notify(self.store.replace(listed.items, listed.version, within=listed.within))
        self._listed = True
        self.watch_health.succeeded()

    async def _watch(self) -> None:
        began = time.monotonic()
        quiet = True
        events = self.client.watch(
            self.kind,
            self.namespace,
            labels=self.labels,
            version=self.store.version,
            seconds=random.randint(*WATCH_SECONDS),
        )
        async with contextlib.aclosing(events):
            async for event in events:
                quiet = False
                self._apply_event(event)
                self.watch_health.succeeded()
        if quiet and time.monotonic() - began < SHORTEST_WATCH:
            raise errors.Unavailable(f"watch of {self.kind.plural} ended at once")
        self.watch_health.succeeded()

    def _apply_event(self, event: Raw) -> None:
        item = event["object"]
        if event["type"] == "DELETED":
            self._notify(self.store.delete_from_watch(item))
        elif event["type"] != "BOOKMARK":
            self._notify(self.store.update_from_watch(item))
        self.store.version = max(self.store.version, version(item))

    def _notify(self, objects: list[Raw]) -> None:
        for each in objects:
            self.changed(self.kind, each)

    async def _pause(self, error: str, *, at_least: float = 0.0) -> None:
        self.watch_health.failed(error)
        failures = self.watch_health.failures
        if failures % FAILURES_BEFORE_LIST == 0:
            self._listed = False
        if error:
            log.warning("watch failed", kind=self.kind.name, error=error, failures=failures)
        longest = min(self.backoff, 0.5 * 2 ** min(failures, 16))
        await asyncio.sleep(at_least + random.uniform(0.1, longest))
