"""Which release serves a namespace: one claim in each, a Lease that is written at a change alone.

A claim names a release by its Lease, and the process that held it. It is taken with the resource
version at which it was read, where it is released, or where its process cannot write any more:
the Lease of its release is released, was taken by another process, or has expired and was emptied
by us. The last one makes a renewal that comes late fail.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from springtide_api.names import GROUP
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import LEASE
from springtide_operator.cluster.api.lease import Lease

if TYPE_CHECKING:
    from springtide_operator.cluster.api.client import Client
    from springtide_operator.cluster.api.kinds import Raw

CLAIM = GROUP
"""Name of the Lease: with a dot, which the name of a release's own Lease cannot have."""

NOBODY = "/"
"""Identity of no pod."""


@dataclass
class Claims:
    """The claims of one process of a release.

    Args:
        client: its guard refuses writes while our own Lease is not fresh.
        lease: of our release.
    """

    client: Client
    lease: Lease
    _others: dict[tuple[str, str], Lease] = field(default_factory=dict)
    """Leases of other releases, watched for their expiry."""

    @property
    def holder(self) -> str:
        """What our claims name."""
        return f"{self.lease.namespace}/{self.lease.name}/{self.lease.process}"

    async def take(self, namespace: str) -> str:
        """Claim a namespace; return the release that holds it, empty where it is ours now.

        Nothing can be created in a namespace that is being deleted: there its objects are only
        finished, which needs no claim.

        Raises:
            ApiError: try again.
        """
        try:
            seen = await self.client.get(LEASE, namespace, CLAIM)
        except errors.NotFound:
            return await self._create(namespace)
        holder = str(seen["spec"].get("holderIdentity") or "")
        if holder == self.holder:
            return ""
        if holder and not await self._is_over(holder):
            return holder.rpartition("/")[0] or holder
        transitions = int(seen["spec"].get("leaseTransitions") or 0) + 1
        await self.client.replace(LEASE, {**seen, "spec": self._spec(transitions)})
        return ""

    async def release(self, namespace: str) -> None:
        """Release a namespace if we hold it.

        Raises:
            ApiError: try again.
        """
        try:
            seen = await self.client.get(LEASE, namespace, CLAIM)
            if seen["spec"].get("holderIdentity") == self.holder:
                spec = {**seen["spec"], "holderIdentity": ""}
                await self.client.replace(LEASE, {**seen, "spec": spec})
        except errors.NotFound:
            return

    async def _create(self, namespace: str) -> str:
        metadata = {"namespace": namespace, "name": CLAIM}
        try:
            await self.client.create(LEASE, {"metadata": metadata, "spec": self._spec(0)})
        except errors.Terminating:
            return ""
        return ""

    async def _is_over(self, holder: str) -> bool:
        """Whether the process that a claim names cannot write any more."""
        try:
            namespace, name, process = holder.split("/")
        except ValueError:
            return False  # written by someone else: only its removal says that it is over
        try:
            seen = await self.client.get(LEASE, namespace, name)
        except errors.NotFound:
            return True
        if not str(seen["spec"].get("holderIdentity") or "").endswith(f"_{process}"):
            return True
        other = self._others.setdefault(
            (namespace, name), Lease(self.client, namespace, name, NOBODY)
        )
        return await other.end(seen)

    def _spec(self, transitions: int) -> Raw:
        now = self.client.clock.now().strftime("%Y-%m-%dT%H:%M:%S.000000Z")
        return {
            "holderIdentity": self.holder,
            "acquireTime": now,
            "leaseTransitions": transitions,
        }
