"""One operator at a time, by a coordination Lease.

Whether we hold the Lease is decided by the local monotonic clock from the moment a renewal was
sent; whether another holder's has expired, by watching it unchanged: for its whole duration, or for
two missed renewals where the API server's own time confirms it. So skewed clocks cannot cause two
holders, and an operator that restarts again and again still becomes the leader.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import LEASE

if TYPE_CHECKING:
    from springtide_operator.cluster.api.client import Client
    from springtide_operator.cluster.api.kinds import Raw

ROUNDING = 2.0
"""Seconds: both the renewal time and the server's time are rounded down to whole seconds."""

log = structlog.get_logger(__name__)


class LeaseLost(Exception):
    """Another operator holds the Lease, or it could not be renewed in time."""


@dataclass
class Lease:
    """Our hold on one Lease.

    Args:
        client: a separate one, without guard, so that nothing delays renewals.
        identity: of the pod. A restarted container of the same pod takes over at once, because they
            never run at the same time.
        seconds: the Lease expires this long after the last renewal.
    """

    client: Client
    namespace: str
    name: str
    identity: str
    seconds: float = 30.0
    process: str = field(default_factory=lambda: uuid.uuid4().hex[:12])
    last_error: str = ""
    """The last error of a request for the Lease; empty after a success."""
    _held: Raw | None = None
    _renewed: float = float("-inf")
    _watched: tuple[str, float] = ("", 0.0)

    @property
    def holder(self) -> str:
        """Our identity: the pod and this process in it."""
        return f"{self.identity}_{self.process}"

    @property
    def fresh(self) -> bool:
        """Whether a write sent now ends before another operator may take the Lease."""
        left = self._renewed + self.seconds - time.monotonic()
        return self._held is not None and left > self._write_seconds

    @property
    def _write_seconds(self) -> float:
        """How long a write takes at most, until the API server has dropped it."""
        return self.client.timeout + 2.0

    def guard(self) -> None:
        """Refuse a write where the Lease is not fresh.

        Raises:
            NotLeading: nothing may be written now.
        """
        if not self.fresh:
            raise errors.NotLeading(f"Lease {self.namespace}/{self.name} is not fresh")

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        while not await self._try():
            await asyncio.sleep(min(2.0, self.seconds / 10))
        log.info("lease acquired", holder=self.holder)

    async def keep(self) -> None:
        """Renew until it is lost, so often that slow answers do not keep it from being fresh.

        Raises:
            LeaseLost: stop writing and exit.
        """
        pause = min(self.seconds / 6, max(0.5, (self.seconds - self._write_seconds) / 3))
        while True:
            await asyncio.sleep(pause)
            if not await self._try():
                raise LeaseLost(f"Lease {self.namespace}/{self.name} is held by another operator")
            if time.monotonic() - self._renewed > self.seconds:
                raise LeaseLost(f"Lease {self.namespace}/{self.name} could not be renewed")

    async def release(self) -> None:
        """Release it, so that the next operator does not wait."""
        held, self._held = self._held, None
        if held is None:
            return
        spec = {**held["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        try:
            await self.client.replace(LEASE, {**held, "spec": spec})
        except errors.ApiError as error:
            log.warning("lease not released", error=str(error))

    async def end(self, seen: Raw) -> bool:
        """Empty the Lease of another, as it was read, where it has expired; return whether it had.

        Its holder cannot renew it afterwards, however late.
        """
        if not self._free(seen):
            return False
        spec = {**seen["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        await self.client.replace(LEASE, {**seen, "spec": spec})
        return True

    async def _try(self) -> bool:
        """Take or renew. False: another holds it. Failures to reach the server change nothing."""
        try:
            await self._renew() if self._held is not None else await self._take()
            self.last_error = ""
        except (errors.Conflict, errors.NotFound) as error:
            was_ours, self._held = self._held is not None, None
            if was_ours:
                return await self._still_ours()
            if isinstance(error, errors.NotFound):  # its namespace does not exist
                log.warning("lease not created", error=str(error))
                self.last_error = str(error)
        except errors.ApiError as error:
            log.warning("lease not reached", error=str(error))
            self.last_error = str(error)
            return self._held is not None
        return self._held is not None

    async def _still_ours(self) -> bool:
        """After a refused renewal: whether an earlier one succeeded and its answer was lost."""
        try:
            seen = await self.client.get(LEASE, self.namespace, self.name)
        except errors.ApiError:
            return False
        if seen["spec"].get("holderIdentity") != self.holder:
            return False
        self._held = seen
        return True

    async def _renew(self) -> None:
        assert self._held is not None
        sent = time.monotonic()
        spec = {**self._held["spec"], "renewTime": self._now()}
        self._held = await self.client.replace(LEASE, {**self._held, "spec": spec})
        self._renewed = sent

    async def _take(self) -> None:
        sent = time.monotonic()
        try:
            seen = await self.client.get(LEASE, self.namespace, self.name)
        except errors.NotFound:
            metadata = {"namespace": self.namespace, "name": self.name}
            body = {"metadata": metadata, "spec": self._spec(0)}
            self._held = await self.client.create(LEASE, body)
        else:
            if not self._free(seen):
                return
            spec = self._spec(int(seen["spec"].get("leaseTransitions") or 0) + 1)
            self._held = await self.client.replace(LEASE, {**seen, "spec": spec})
        self._renewed = sent

    def _free(self, seen: Raw) -> bool:
        spec = seen["spec"]
        holder = str(spec.get("holderIdentity") or "")
        if not holder or holder.rpartition("_")[0] == self.identity:
            return True
        version, since = self._watched
        if version != seen["metadata"]["resourceVersion"]:
            self._watched = (seen["metadata"]["resourceVersion"], time.monotonic())
            return False
        still, duration = time.monotonic() - since, self._duration(spec)
        return still > duration or (still > duration / 3 and self._overdue(spec))

    def _duration(self, spec: Raw) -> float:
        return float(spec.get("leaseDurationSeconds") or self.seconds)

    def _overdue(self, spec: Raw) -> bool:
        """Whether the last renewal is too old, both moments by the API server's time."""
        try:
            renewed = datetime.fromisoformat(str(spec.get("renewTime") or ""))
        except ValueError:
            return False
        if renewed.tzinfo is None:
            return False
        age = self.client.clock.now() - renewed
        return age.total_seconds() > self._duration(spec) + ROUNDING

    def _spec(self, transitions: int) -> Raw:
        now = self._now()
        return {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": int(self.seconds),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": transitions,
        }

    def _now(self) -> str:
        return self.client.clock.now().strftime("%Y-%m-%dT%H:%M:%S.000000Z")
