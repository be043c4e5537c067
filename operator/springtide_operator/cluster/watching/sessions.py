"""The HTTP sessions that kopf reads through: with the current token, and read-only.

A write by kopf would not check the Lease, so none passes. Every answer counts for the watch health
of its kind; a watch that went silent is followed by an audit.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

    from springtide_operator.cluster.api.clock import ServerClock
    from springtide_operator.cluster.api.connection import Connection
    from springtide_operator.cluster.watching.auditor import Auditor

WATCH_SECONDS = 50
"""The API server ends a watch of kopf after this time."""

SHORTEST_WATCH = 1.0
"""Seconds between the starts of two watches of a kind, however soon the first one ends."""


class WriteRefusedError(Exception):
    """Only reads pass through these sessions."""


@dataclass
class Sessions:
    """Opens sessions and observes the requests that they send.

    Args:
        connection: address, certificates and token.
        clock: learns the server's time from every answer.
        auditors: by the plural of their kind.
        count: called with verb and status of every answer, 0 where none came.
        silent_seconds: a watch that was followed by the next one only after so long was silent.
    """

    connection: Connection
    clock: ServerClock
    auditors: Mapping[str, Auditor]
    count: Callable[[str, int], None]
    silent_seconds: float = WATCH_SECONDS + 10.0
    _watches: dict[str, float] = field(default_factory=dict)

    def open(self) -> aiohttp.ClientSession:
        """Open a session; the caller closes it."""
        return self.connection.session(self._pass)

    async def _pass(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        if request.method != "GET":
            raise WriteRefusedError(f"{request.method} {request.url}: kopf may only read")
        auditor = self.auditors.get(request.url.path.rpartition("/")[2])
        if auditor is not None and request.url.query.get("watch") == "true":
            await self._watch_begins(auditor)
        try:
            response = await self._send(request, handler)
        except (aiohttp.ClientError, TimeoutError) as error:
            self._failed(auditor, request, f"{type(error).__name__}: {error}")
            raise
        if response.status >= 300:
            self._failed(auditor, request, str(response.status))
        elif auditor is not None:
            auditor.watch_health.succeeded()
        if auditor is not None and response.status == 404:
            # A server that has just started does not know the kind yet: let kopf retry.
            response.close()
            raise aiohttp.ClientConnectionError(f"{auditor.kind.plural}: not served now")
        return response

    def _failed(self, auditor: Auditor | None, request: ClientRequest, error: str) -> None:
        if auditor is not None:
            auditor.watch_health.failed(f"GET {request.url.path}: {error}")

    async def _send(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        sent, status = time.monotonic(), 0
        try:
            if token := await self._token():
                request.headers["Authorization"] = token
            response = await handler(request)
            status = response.status
        finally:
            self.count("GET", status)
        if date := response.headers.get("Date"):
            self.clock.learn(date, sent=sent, received=time.monotonic())
        return response

    async def _token(self) -> str | None:
        try:
            return await self.connection.token()
        except ConnectionError as error:
            raise aiohttp.ClientConnectionError(str(error)) from error  # which kopf retries

    async def _watch_begins(self, auditor: Auditor) -> None:
        """Request an audit after a silent watch, and slow down watches that end at once."""
        plural, now = auditor.kind.plural, time.monotonic()
        last = self._watches.get(plural)
        self._watches[plural] = now
        if last is None:
            return
        if now - last > self.silent_seconds:
            auditor.request(0.0)
        if (wait := last + SHORTEST_WATCH - now) > 0:
            self._watches[plural] = now + wait
            await asyncio.sleep(wait)
