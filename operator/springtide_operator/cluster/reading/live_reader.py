"""Live reads that no watch covers, each cached for a while.

Entries expire after their time, the least recently used ones before that where there are too many;
of each object only the fields in use are kept.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from cachetools import TLRUCache

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import (
    CLAIM,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    ENDPOINT_SLICE,
    EVENT,
    GENERATION,
    JOB,
    JOB_SET,
    POD,
    REPLICA_SET,
    SERVICE,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable
    from typing import Any

    from springtide_operator.cluster.api.client import Client
    from springtide_operator.cluster.api.kinds import Raw

TARGET_SECONDS = 30.0

EVENTS_SECONDS = 9.0

PODS_SECONDS = 10.0

REPLICA_SETS_SECONDS = 60.0

SERVICES_SECONDS = 20.0

ENDPOINTS_SECONDS = 1.0
"""A step of a canary waits for them."""

LABEL_SERVICE = "kubernetes.io/service-name"
"""On an EndpointSlice: its Service."""

MAX_CACHED_READS = 1_000
"""Cached reads. Beyond this number the least recently used one is dropped."""


class _Read(NamedTuple):
    """What was read, and for how many seconds it is valid."""

    found: Any
    seconds: float


def _until(key: Hashable, cached_read: _Read, now: float) -> float:
    return now + cached_read.seconds


@dataclass
class LiveReader:
    """Live reads with a short-lived cache.

    Args:
        client: reads only.
        monotonic: seconds of a clock.
    """

    client: Client
    monotonic: Callable[[], float] = time.monotonic
    _reads: TLRUCache[Hashable, _Read] = field(init=False)

    def __post_init__(self) -> None:
        self._reads = TLRUCache(MAX_CACHED_READS, _until, timer=self.monotonic)

    async def deployment(self, namespace: str, name: str) -> Raw | None:
        """Read a Deployment that is not labelled as a target yet; None: there is none."""

        async def read() -> Raw | None:
            try:
                return await self.client.get(DEPLOYMENT, namespace, name)
            except errors.NotFound:
                return None

        found: Raw | None = await self._cached(
            ("deployment", namespace, name), TARGET_SECONDS, read
        )
        if found is None:
            # It may be created at any moment, and a new update may need it.
            self.invalidate_deployment(namespace, name)
        return found

    async def claim(self, namespace: str, name: str) -> Raw | None:
        """Read a persistent volume claim; None: there is none, or it must not be read."""

        async def read() -> Raw | None:
            try:
                return await self.client.get(CLAIM, namespace, name)
            except (errors.NotFound, errors.Forbidden):
                return None

        found: Raw | None = await self._cached(("claim", namespace, name), TARGET_SECONDS, read)
        return found

    async def job(self, namespace: str, name: str) -> Raw | None:
        """Read a Job now; None: there is none."""
        try:
            return await self.client.get(JOB, namespace, name)
        except errors.NotFound:
            return None

    async def job_set(self, namespace: str, name: str) -> Raw | None:
        """Read a JobSet now; None: there is none."""
        try:
            return await self.client.get(JOB_SET, namespace, name)
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

        async def read() -> list[Raw]:
            fields = f"involvedObject.uid={uid}"
            return (await self.client.list_all(EVENT, namespace, fields=fields)).items

        found: list[Raw] = await self._cached(("events", uid), EVENTS_SECONDS, read)
        return found

    async def pods(self, namespace: str, labels: str) -> list[Raw]:
        """Read the pods that a selector finds."""

        async def read() -> list[Raw]:
            listed = await self.client.list_all(POD, namespace, labels=labels)
            return [_of_pod(raw) for raw in listed.items]

        found: list[Raw] = await self._cached(("pods", namespace, labels), PODS_SECONDS, read)
        return found

    async def replica_sets(self, namespace: str, labels: str, revision: Hashable) -> list[Raw]:
        """Read the ReplicaSets that a selector finds; again at once for another revision."""

        async def read() -> list[Raw]:
            listed = await self.client.list_all(REPLICA_SET, namespace, labels=labels)
            return [_of_replica_set(raw) for raw in listed.items]

        key = ("replica sets", namespace, labels, revision)
        found: list[Raw] = await self._cached(key, REPLICA_SETS_SECONDS, read)
        return found

    async def services(self, namespace: str) -> list[Raw]:
        """Read the Services of a namespace."""

        async def read() -> list[Raw]:
            return list(map(_with_spec, (await self.client.list_all(SERVICE, namespace)).items))

        found: list[Raw] = await self._cached(("services", namespace), SERVICES_SECONDS, read)
        return found

    async def disruption_budgets(self, namespace: str) -> list[Raw]:
        """Read the PodDisruptionBudgets of a namespace."""

        async def read() -> list[Raw]:
            listed = await self.client.list_all(DISRUPTION_BUDGET, namespace)
            return list(map(_with_spec, listed.items))

        found: list[Raw] = await self._cached(("budgets", namespace), SERVICES_SECONDS, read)
        return found

    async def endpoint_slices(self, namespace: str, service: str) -> list[Raw]:
        """Read the EndpointSlices of a Service."""

        async def read() -> list[Raw]:
            labels = f"{LABEL_SERVICE}={service}"
            return (await self.client.list_all(ENDPOINT_SLICE, namespace, labels=labels)).items

        key = ("endpoint slices", namespace, service)
        found: list[Raw] = await self._cached(key, ENDPOINTS_SECONDS, read)
        return found

    def invalidate_services(self, namespace: str) -> None:
        """Drop the cached Services: we have just created one."""
        self._reads.pop(("services", namespace), None)

    def invalidate_deployment(self, namespace: str, name: str) -> None:
        """Drop the cached Deployment: we have just changed it."""
        self._reads.pop(("deployment", namespace, name), None)

    async def _cached(
        self, key: Hashable, seconds: float, read: Callable[[], Awaitable[Any]]
    ) -> Any:
        self._reads.expire()  # or entries that are not read again stay until the next one is added
        cached = self._reads.get(key)
        if cached is None:
            cached = self._reads[key] = _Read(await read(), seconds)
        return cached.found


def _of_replica_set(raw: Raw) -> Raw:
    return {"metadata": _of_metadata(raw), "spec": {"template": raw["spec"]["template"]}}


def _with_spec(raw: Raw) -> Raw:
    return {"metadata": _of_metadata(raw), "spec": raw.get("spec") or {}}


def _of_pod(raw: Raw) -> Raw:
    return {"metadata": _of_metadata(raw), "status": raw.get("status") or {}}


def _of_metadata(raw: Raw) -> Raw:
    return {key: value for key, value in raw["metadata"].items() if key != "managedFields"}
