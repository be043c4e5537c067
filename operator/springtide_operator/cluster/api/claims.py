"""Which release serves a namespace: one claim in each, a Lease that is written at a change alone.

A claim names a release by its Lease, and the process that held it. It is taken with the resource
version at which it was read, where it is released, or where its process cannot write any more:
the Lease of its release is released, was taken by another process, or has expired and was emptied
by us. The last one makes a renewal that comes late fail.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from springtide_api.names import GROUP
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import LEASE
from springtide_operator.cluster.api.lease import Lease

if TYPE_CHECKING:
    from springtide_operator.cluster.api.client import Client
    from springtide_operator.cluster.api.kinds import Raw

CLAIM = GROUP
"""Name of the Lease: with a dot, which the name of a release's own Lease cannot have."""

NO_POD = "/"
"""Identity of no pod."""

_HOLDER = re.compile(
    r"([a-z0-9](?:[-a-z0-9]*[a-z0-9])?)/([a-z0-9](?:[-a-z0-9.]*[a-z0-9])?)/([0-9a-f]{12})"
)


class Holder(NamedTuple):
    """What a claim names: the Lease of a release, and the process that held it."""

    namespace: str
    name: str
    process: str

    @property
    def release(self) -> str:
        """The release alone."""
        return f"{self.namespace}/{self.name}"

    def __str__(self) -> str:
        return "/".join(self)


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
    _unanswered: set[str] = field(default_factory=set)
    """Namespaces whose release had no answer: the write may still be carried out."""

    @property
    def holder(self) -> str:
        """What our claims name."""
        return str(Holder(self.lease.namespace, self.lease.name, self.lease.process))

    async def take(self, namespace: str) -> str:
        """Claim a namespace; return the release that holds it, empty where it is ours now.

        Nothing can be created in a namespace that is being deleted: there its objects are only
        finished, which needs no claim. One that we released without an answer is claimed again: a
        release that is carried out late has another resource version then, and fails.

        Raises:
            ApiError: try again.
        """
        try:
            seen = await self.client.get(LEASE, namespace, CLAIM)
        except errors.NotFound:
            return await self._create(namespace)
        text = _held_by(seen)
        ours = text == self.holder
        if ours and namespace not in self._unanswered:
            return ""
        if text and not ours:
            holder = _parsed(text)
            if holder is None:  # written by someone else: only its removal says that it is over
                return text
            if not await self._is_over(holder):
                return holder.release
        transitions = int(seen["spec"].get("leaseTransitions") or 0) + 1
        await self.client.replace(LEASE, {**seen, "spec": self._spec(transitions)})
        self._unanswered.discard(namespace)
        return ""

    async def holds(self, namespace: str) -> bool:
        """Whether the claim is ours now.

        Raises:
            ApiError: not known.
        """
        try:
            return _held_by(await self.client.get(LEASE, namespace, CLAIM)) == self.holder
        except errors.NotFound:
            return False

    async def release(self, namespace: str) -> None:
        """Release a namespace if we hold it.

        Raises:
            ApiError: try again.
        """
        try:
            seen = await self.client.get(LEASE, namespace, CLAIM)
            if _held_by(seen) == self.holder:
                spec = {**seen["spec"], "holderIdentity": ""}
                self._unanswered.add(namespace)
                await self.client.replace(LEASE, {**seen, "spec": spec})
                self._unanswered.discard(namespace)
        except errors.NotFound:
            return

    async def _create(self, namespace: str) -> str:
        metadata = {"namespace": namespace, "name": CLAIM}
        with contextlib.suppress(errors.Terminating):
            await self.client.create(LEASE, {"metadata": metadata, "spec": self._spec(0)})
        return ""

    async def _is_over(self, holder: Holder) -> bool:
        """Whether the process that a claim names cannot write any more."""
        namespace, name, process = holder
        try:
            seen = await self.client.get(LEASE, namespace, name)
        except errors.NotFound:
            return True
        if not _held_by(seen).endswith(f"_{process}"):
            return True
        other = self._others.setdefault(
            (namespace, name), Lease(self.client, namespace, name, NO_POD)
        )
        try:
            return await other.end(seen)
        except errors.Forbidden:
            return False  # in a namespace of another release: a person deletes the claim

    def _spec(self, transitions: int) -> Raw:
        now = self.client.clock.now().strftime("%Y-%m-%dT%H:%M:%S.000000Z")
        return {
            "holderIdentity": self.holder,
            "acquireTime": now,
            "leaseTransitions": transitions,
        }


def _held_by(lease: Raw) -> str:
    return str((lease.get("spec") or {}).get("holderIdentity") or "")


def _parsed(text: str) -> Holder | None:
    """Parse what a claim names; a user of the namespace may have written it."""
    found = _HOLDER.fullmatch(text)
    return Holder(*found.groups()) if found else None
