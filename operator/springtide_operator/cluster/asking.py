"""Questions to the API server that no watch answers, each asked again only after a while.

Answers are dropped when their time is over, the longest unused ones before that where there are too
many; of each object only what is read is kept.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from cachetools import TLRUCache

from springtide_operator.cluster import errors
from springtide_operator.cluster.kinds import DEPLOYMENT, EVENT, GENERATION, JOB, POD, REPLICA_SET

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from springtide_operator.cluster.client import Client
    from springtide_operator.cluster.kinds import Raw

TARGET_SECONDS = 30.0
EVENTS_SECONDS = 9.0
PODS_SECONDS = 10.0
REPLICA_SETS_SECONDS = 60.0
MOST_REMEMBERED = 1_000
"""Answers. Beyond, the one that was not used for longest is asked for again."""


class _Answer(NamedTuple):
    """What was answered, and for how many seconds it counts."""

    found: Any
    seconds: float


def _until(key: Hashable, answer: _Answer, now: float) -> float:
    return now + answer.seconds


@dataclass
class Asking:
    """Live reads with a short memory.

    Args:
        client: reads only.
        monotonic: seconds of a clock.
    """

    client: Client
    monotonic: Callable[[], float] = time.monotonic
    _known: TLRUCache[Hashable, _Answer] = field(init=False)

    def __post_init__(self) -> None:
        self._known = TLRUCache(MOST_REMEMBERED, _until, timer=self.monotonic)

    async def deployment(self, namespace: str, name: str) -> Raw | None:
        """Read a Deployment that is not labelled as a target yet; None: there is none."""

        async def ask() -> Raw | None:
            try:
                return await self.client.get(DEPLOYMENT, namespace, name)
            except errors.NotFound:
                return None

        found: Raw | None = await self._ask(("deployment", namespace, name), TARGET_SECONDS, ask)
        if found is None:
            # It may come at any moment, and the next one to ask may be a new update.
            self.forget_deployment(namespace, name)
        return found

    async def job(self, namespace: str, name: str) -> Raw | None:
        """Read a Job now; None: there is none."""
        try:
            return await self.client.get(JOB, namespace, name)
        except errors.NotFound:
            return None

    async def generation(self, namespace: str, name: str) -> Raw | None:
        """Read a generation now; None: there is none."""
        try:
            return await self.client.get(GENERATION, namespace, name)
        except errors.NotFound:
            return None

    async def events(self, namespace: str, uid: str) -> list[Raw]:
        """Read the Events about an object."""

        async def ask() -> list[Raw]:
            fields = f"involvedObject.uid={uid}"
            return (await self.client.list_all(EVENT, namespace, fields=fields)).items

        found: list[Raw] = await self._ask(("events", uid), EVENTS_SECONDS, ask)
        return found

    async def pods(self, namespace: str, labels: str) -> list[Raw]:
        """Read the pods that a selector finds."""

        async def ask() -> list[Raw]:
            listed = await self.client.list_all(POD, namespace, labels=labels)
            return [_of_pod(raw) for raw in listed.items]

        found: list[Raw] = await self._ask(("pods", namespace, labels), PODS_SECONDS, ask)
        return found

    async def replica_sets(self, namespace: str, labels: str, revision: Hashable) -> list[Raw]:
        """Read the ReplicaSets that a selector finds; again at once for another revision."""

        async def ask() -> list[Raw]:
            listed = await self.client.list_all(REPLICA_SET, namespace, labels=labels)
            return [_of_replica_set(raw) for raw in listed.items]

        key = ("replica sets", namespace, labels, revision)
        found: list[Raw] = await self._ask(key, REPLICA_SETS_SECONDS, ask)
        return found

    def forget_deployment(self, namespace: str, name: str) -> None:
        """Ask anew: we have just changed it."""
        self._known.pop(("deployment", namespace, name), None)

    async def _ask(self, key: Hashable, seconds: float, ask: Callable[[], Awaitable[Any]]) -> Any:
        self._known.expire()  # or what is never asked for again stays until something new comes
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = _Answer(await ask(), seconds)
        return known.found


def _of_replica_set(raw: Raw) -> Raw:
    return {"metadata": _of_metadata(raw), "spec": {"template": raw["spec"]["template"]}}


def _of_pod(raw: Raw) -> Raw:
    return {"metadata": _of_metadata(raw), "status": raw.get("status") or {}}


def _of_metadata(raw: Raw) -> Raw:
    return {key: value for key, value in raw["metadata"].items() if key != "managedFields"}
