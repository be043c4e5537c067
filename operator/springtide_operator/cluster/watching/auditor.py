"""Keeps a kind complete whose events kopf delivers: a full list at the start and as an audit.

kopf delivers no deletion that happened during a gap between two watches, and does not report the
end of a list. An audit removes what is gone. Events of different objects may come in any order, so
they never advance the version up to which everything is known; only a list does.
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
from springtide_operator.cluster.watching.watch_health import WatchHealth

if TYPE_CHECKING:
    from collections.abc import Callable

    from springtide_operator.cluster.api.client import Client
    from springtide_operator.cluster.api.kinds import Kind, Raw
    from springtide_operator.cluster.watching.cache import Store

AUDIT_SECONDS = 300.0
"""Between two audits, plus or minus a tenth."""

RELIST_SECONDS = 2.0
"""From the last event of a list of kopf's to the audit: a list of kopf's follows a gap."""

log = structlog.get_logger(__name__)


@dataclass
class Auditor:
    """Fills one store from events and from lists.

    Args:
        client: reads only.
        kind: what to list.
        store: what to fill.
        changed: called with every object that changed, appeared or is gone.
        namespace: empty: all.
        backoff: longest wait after a list that failed, seconds.
    """

    client: Client
    kind: Kind
    store: Store
    changed: Callable[[Kind, Raw], None]
    namespace: str = ""
    backoff: float = 30.0
    watch_health: WatchHealth = field(default_factory=WatchHealth)
    _requested: float = float("inf")
    """Monotonic seconds of the next audit that an event or a silent watch requests."""
    _sooner: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """List at the start and whenever an audit is due, until cancelled."""
        self.watch_health.begin()
        while True:
            self._requested = float(
                "inf"
            )  # before the list: an event during it requests another one
            try:
                await self._list()
                await self._wait()
            except errors.Gone:
                await asyncio.sleep(random.uniform(0, 0.5))
            except errors.ApiError as error:
                await self._pause(error)

    def handle(self, event: Raw) -> None:
        """Handle one event of kopf: its type is None for an object of a list."""
        item = event["object"]
        if event["type"] == "DELETED":
            self._notify(self.store.delete_from_watch(item))
        else:
            self._notify(self.store.update_from_watch(item))
        if event["type"] is None:
            self.request(RELIST_SECONDS)

    def request(self, delay: float) -> None:
        """Request an audit this many seconds after the last request."""
        if self._requested == float("inf"):
            self._sooner.set()
        self._requested = time.monotonic() + delay

    async def _list(self) -> None:
        listed = await self.client.list_all(
            self.kind, self.namespace, within=lambda: self.store.namespaces
        )
        self._notify(self.store.replace(listed.items, listed.version, within=listed.within))
        self.watch_health.succeeded()

    async def _wait(self) -> None:
        regular = time.monotonic() + AUDIT_SECONDS * random.uniform(0.9, 1.1)
        while (left := min(regular, self._requested) - time.monotonic()) > 0:
            self._sooner.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._sooner.wait()

    async def _pause(self, error: errors.ApiError) -> None:
        self.watch_health.failed(str(error))
        failures = self.watch_health.failures
        log.warning("list failed", kind=self.kind.name, error=str(error), failures=failures)
        longest = min(self.backoff, 0.5 * 2 ** min(failures, 16))
        await asyncio.sleep((error.retry_after or 0.0) + random.uniform(0.1, longest))

    def _notify(self, objects: list[Raw]) -> None:
        for each in objects:
            self.changed(self.kind, each)
