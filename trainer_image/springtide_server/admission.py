"""Reads request bodies within limits: bytes per request, bytes of all requests, and time.

Bytes are counted while a request is in flight, so many large requests cannot exceed the pod's
memory limit.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from springtide_server.answers import Rejected

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

BINARY = "inference-header-content-length"
"""Header of requests with tensors in binary form, an extension of the protocol."""


class Admission:
    """Counts the bytes of requests in flight.

    Args:
        max_body: Maximum bytes of one body.
        max_total: Maximum bytes of all bodies in flight.
        max_seconds: Maximum seconds to receive a body.
    """

    def __init__(self, max_body: int, max_total: int, max_seconds: float = 30.0) -> None:
        self._max_body = max_body
        self._max_total = max_total
        self._max_seconds = max_seconds
        self._total = 0

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Read a body, which is counted until the block ends.

        Raises:
            Rejected: the body is encoded (415), too large (413) or too slow (408), or all bodies
                are too large (503).
            ClientDisconnect: the client disconnected.
        """
        body = bytearray()
        try:
            await self._read(request, body)
            yield bytes(body)
        finally:
            self._total -= len(body)

    async def _read(self, request: Request, body: bytearray) -> None:
        _check_encoding(request)
        self._check(_declared_length(request))
        try:
            async with asyncio.timeout(self._max_seconds):
                async for chunk in request.stream():
                    body += chunk
                    self._total += len(chunk)
                    self._check(len(body))
        except TimeoutError:
            raise Rejected(
                408, f"receiving the body took more than {self._max_seconds:g} s"
            ) from None

    def _check(self, length: int) -> None:
        if length > self._max_body:
            raise Rejected(413, f"the body is larger than {self._max_body} bytes; send fewer rows")
        if self._total > self._max_total:
            raise Rejected(
                503, f"requests in flight exceed {self._max_total} bytes; retry later", "overloaded"
            )


def _declared_length(request: Request) -> int:
    declared = request.headers.get("content-length", "0")
    return int(declared) if declared.isdecimal() else 0


def _check_encoding(request: Request) -> None:
    coding = request.headers.get("content-encoding", "")
    if coding.strip().lower() not in {"", "identity"}:
        raise Rejected(415, f"Content-Encoding is {coding[:40]!r}; send the body uncompressed")
    if BINARY in request.headers:
        raise Rejected(
            415, f"{BINARY} is set, but tensors in binary form are not read; send data as JSON"
        )
