"""The namespaces that a release with a selector serves.

A namespace is served once its labels match, its claim is ours, so that no other release writes in
it, and each kind was listed in it. One that no longer matches is left at once: nothing more is
written in it, and its claim is released when the last write that was sent has ended.
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
from springtide_operator.cluster.api.kinds import NAMESPACE, UPDATE
from springtide_operator.cluster.watching.cache import Store
from springtide_operator.cluster.watching.reflector import Reflector
from springtide_operator.cluster.watching.watches import LABELS, OPTIONAL_LABELS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from springtide_operator.cluster.api.claims import Claims
    from springtide_operator.cluster.api.client import Client
    from springtide_operator.cluster.api.kinds import Kind, Raw
    from springtide_operator.cluster.watching.cache import Cache
    from springtide_operator.cluster.watching.watches import Wake

RETRY_SECONDS = 2.0
"""Between two attempts to claim a namespace that another release holds."""

AUDIT_SECONDS = 300.0
"""Between two audits of our claims, plus or minus a tenth: a user may have deleted one."""

NAMED = 16
"""Namespaces of other releases that are named at once."""

log = structlog.get_logger(__name__)


@dataclass
class Shard:
    """Follows the labels of namespaces.

    Args:
        client: reads only.
        claims: of this process.
        selector: a label selector, which the API server evaluates.
        cache: keeps the objects of these namespaces alone.
        wake: called with every update whose namespace came or went.
        drain_seconds: a write that was sent has ended after this time.
    """

    client: Client
    claims: Claims
    selector: str
    cache: Cache
    wake: Wake
    drain_seconds: float
    reflector: Reflector = field(init=False)
    elsewhere: dict[str, str] = field(default_factory=dict)
    """Namespaces that match and that another release holds, with the release."""
    failing: dict[str, str] = field(default_factory=dict)
    """Namespaces whose last step failed, with the error."""
    _served: set[str] = field(default_factory=set)
    """Namespaces that are ours, and completely listed."""
    _kept: dict[str, str] = field(default_factory=dict)
    """Namespaces whose claim is ours, with their uids: their objects are in the cache."""
    _claimed: set[str] = field(default_factory=set)
    """Namespaces whose claim is ours, or may be: a write without an answer may have happened."""
    _released_at: dict[str, float] = field(default_factory=dict)
    """Monotonic seconds from which the claim of a namespace that was left can be released."""
    _changes: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._namespaces = Store(lambda raw: "", _trim)
        self.reflector = Reflector(
            self.client, NAMESPACE, self._namespaces, self._changed, labels=self.selector
        )
        self._keep()

    def serves(self, namespace: str) -> bool:
        """Whether the namespace is ours, and completely listed."""
        return namespace in self._served

    @property
    def served(self) -> int:
        """How many namespaces are served."""
        return len(self._served)

    def scope(self) -> dict[str, Any]:
        """Return what is served, for health and log."""
        return {
            "selector": self.selector,
            "served": self.served,
            "elsewhere": dict(sorted(self.elsewhere.items())[:NAMED]),
            "failing": dict(sorted(self.failing.items())[:NAMED]),
        }

    def guard(self, path: str) -> None:
        """Refuse a write in a namespace that is not served.

        Raises:
            NotLeading: it may not be sent.
        """
        namespace = path.partition("/namespaces/")[2].partition("/")[0]
        if not self.serves(namespace):
            raise errors.NotLeading(f"namespace {namespace} is not served by this release now")

    async def begin(self) -> None:
        """Claim what matches before any kind is listed: the first lists then cover it."""
        while not self._namespaces.listed:
            await asyncio.sleep(0.02)
        names = self._matching()
        await asyncio.gather(*(self._persistently(self._claim, name) for name in names))
        self._served.update(self._kept)

    async def run(self) -> None:
        """Claim, list and release namespaces as their labels change, until cancelled."""
        while True:
            self._changes.clear()
            due = [name for name, at in self._released_at.items() if at <= time.monotonic()]
            await asyncio.gather(*(self._persistently(self._release, n) for n in due))
            missing = [name for name in self._matching() if not self.serves(name)]
            await asyncio.gather(*(self._persistently(self._enter, n) for n in missing))
            waits = self._released_at or not all(map(self.serves, self._matching()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY_SECONDS if waits else None):
                    await self._changes.wait()

    async def audit(self) -> None:
        """Leave namespaces whose claim is no longer ours, until cancelled."""
        while True:
            await asyncio.sleep(AUDIT_SECONDS * random.uniform(0.9, 1.1))
            for name in list(self._kept):
                await self._persistently(self._audit, name)

    def _matching(self) -> list[str]:
        return [raw["metadata"]["name"] for raw in self._namespaces.all()]

    def _uid(self, name: str) -> str:
        raw = self._namespaces.get("", name)
        return str(raw["metadata"]["uid"]) if raw is not None else ""

    def _changed(self, _: Kind, raw: Raw) -> None:
        """Leave a namespace that no longer matches, or that is another one of the same name."""
        name = raw["metadata"]["name"]
        uid = self._uid(name)
        if not uid or uid != self._kept.get(name, uid):
            self._leave(name)
        self._changes.set()

    def _leave(self, name: str) -> None:
        self.elsewhere.pop(name, None)
        self.failing.pop(name, None)
        if name not in self._claimed:
            return
        log.info("namespace left", name=name)
        self._served.discard(name)
        self._kept.pop(name, None)
        self._keep()
        self._released_at[name] = time.monotonic() + self.drain_seconds
        for update in self.cache.drop_namespace(name):
            self.wake(name, update)

    async def _claim(self, name: str) -> None:
        """Claim a namespace, and keep its objects from then on."""
        uid = self._uid(name)
        if not uid:
            return
        self._claimed.add(name)
        holder = await self.claims.take(name)
        if holder:
            self._claimed.discard(name)
            if not self._uid(name):  # it stopped matching meanwhile
                return
            if self.elsewhere.get(name) != holder:
                log.warning("namespace is held by another release", name=name, holder=holder)
            self.elsewhere[name] = holder
            return
        self.elsewhere.pop(name, None)
        if uid == self._uid(name):  # else it went meanwhile, perhaps with its claim
            self._released_at.pop(name, None)
            self._kept[name] = uid
            self._keep()

    async def _enter(self, name: str) -> None:
        """Serve a namespace whose labels match now."""
        if name not in self._kept:
            await self._claim(name)
        if name not in self._kept:
            return
        for kind in self.cache.stores:  # in turn: after a failure no list is under way
            await self._list(kind, name)
        if name not in self._kept:
            return
        log.info("namespace served", name=name)
        self._served.add(name)
        for raw in self.cache.stores[UPDATE].all():
            if raw["metadata"]["namespace"] == name:
                self.wake(name, raw["metadata"]["name"])

    async def _list(self, kind: Kind, name: str) -> None:
        """Add what the watch of all namespaces reported before this one was ours."""
        store = self.cache.stores[kind]
        labels = LABELS.get(kind) or OPTIONAL_LABELS.get(kind, "")
        try:
            listed = await self.client.list_all(kind, name, labels=labels)
        except (errors.NotFound, errors.Forbidden):
            if store.required:
                raise
            return
        for item in listed.items:
            store.update_from_watch(item)

    async def _release(self, name: str) -> None:
        await self.claims.release(name)
        del self._released_at[name]
        self._claimed.discard(name)
        log.info("claim released", name=name)

    async def _audit(self, name: str) -> None:
        """Leave a namespace whose claim is no longer ours; the next round claims it again."""
        uid = self._kept.get(name)
        if uid is not None and not await self.claims.holds(name) and self._kept.get(name) == uid:
            log.warning("claim is not ours any more", name=name)
            self._leave(name)
            self._changes.set()

    async def _persistently(self, step: Callable[[str], Awaitable[None]], name: str) -> None:
        """Carry out one step for a namespace; one that fails is repeated by the next round.

        The step is called here: a coroutine whose task is cancelled before it begins is never
        awaited.
        """
        try:
            await step(name)
        except errors.ApiError as error:
            if self.failing.get(name) != str(error):
                log.warning("namespace is tried again", name=name, error=str(error))
            self.failing[name] = str(error)
        else:
            self.failing.pop(name, None)

    def _keep(self) -> None:
        self.cache.keep(frozenset(self._kept))


def _trim(raw: Raw) -> None:
    raw["metadata"].pop("managedFields", None)
