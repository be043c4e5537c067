"""Questions to the API server that no watch answers, each asked again only after a while."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from springtide_operator.cluster import errors
from springtide_operator.cluster.kinds import DEPLOYMENT, EVENT, JOB, POD, REPLICA_SET

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from springtide_operator.cluster.client import Client
    from springtide_operator.cluster.kinds import Raw

TARGET_SECONDS = 30.0
EVENTS_SECONDS = 9.0
PODS_SECONDS = 10.0
REPLICA_SETS_SECONDS = 60.0
MOST_REMEMBERED = 10_000


@dataclass
class Asking:
    """Live reads with a short memory."""

    client: Client
    _known: dict[Hashable, tuple[float, Any]] = field(default_factory=dict)

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
            return (await self.client.list_all(POD, namespace, labels=labels)).items

        found: list[Raw] = await self._ask(("pods", namespace, labels), PODS_SECONDS, ask)
        return found

    async def replica_sets(self, namespace: str, labels: str, revision: Hashable) -> list[Raw]:
        """Read the ReplicaSets that a selector finds; anew after a change of the Deployment."""

        async def ask() -> list[Raw]:
            return (await self.client.list_all(REPLICA_SET, namespace, labels=labels)).items

        key = ("replica sets", namespace, labels, revision)
        found: list[Raw] = await self._ask(key, REPLICA_SETS_SECONDS, ask)
        return found

    def forget_deployment(self, namespace: str, name: str) -> None:
        """Ask anew: we have just changed it."""
        self._known.pop(("deployment", namespace, name), None)

    async def _ask(self, key: Hashable, seconds: float, ask: Callable[[], Awaitable[Any]]) -> Any:
        now = time.monotonic()
        known = self._known.get(key)
        if known is not None and now - known[0] < seconds:
            return known[1]
        answer = await ask()
        if len(self._known) >= MOST_REMEMBERED:
            self._known.clear()
        self._known[key] = (now, answer)
        return answer
