"""One HTTP request to a server on this machine, without a proxy. The caller limits the time."""

from __future__ import annotations

import asyncio
import errno
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import h11

from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ANSWER = 1 << 20
"""Bytes of an answer that are kept; the rest is read and dropped."""
_NOTHING = {errno.ECONNREFUSED, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""No process listens at an address, or this machine has none of its kind."""


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the address of a URL.

        Raises:
            Refused: the URL is not http://HOST:PORT.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port or 80
        except ValueError:
            host, port = None, 0
        if not host or parts.scheme != "http" or parts.path.strip("/") or parts.query:
            raise Refused(
                "InvalidSetting", f"{url[:80]!r} must be a URL like http://127.0.0.1:8080"
            )
        return cls(host, port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Answer:
    """Status and content of an answer."""

    status: int
    content: bytes


async def nothing_listens(address: Address) -> bool:
    """Return whether each address that the host's name has refuses connections, or is none here.

    Raises:
        OSError: an address does not answer, or not as it should.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    for family, kind, protocol, _, place in found:
        try:
            with socket.socket(family, kind, protocol) as made:
                made.setblocking(False)
                await loop.sock_connect(made, place)
        except OSError as failed:
            if failed.errno not in _NOTHING:
                raise
        else:
            return False
    return True


async def get(address: Address, path: str) -> Answer:
    """Send a GET request; raises as `request`."""
    return await request(address, "GET", path, {}, b"")


async def post(address: Address, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Send a POST request with a JSON body; raises as `request`."""
    typed = {"content-type": "application/json", **headers}
    return await request(address, "POST", path, typed, body)


async def request(
    address: Address, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> Answer:
    """Send a request over a new connection.

    Raises:
        OSError: there is no connection, or it ends before the answer does.
    """
    reader, writer = await asyncio.open_connection(address.host, address.port)
    state = h11.Connection(h11.CLIENT)
    sent = {"host": str(address), "connection": "close", "user-agent": "springtide-warm-up"}
    sent |= {"content-length": str(len(body)), **headers}
    try:
        for event in (
            h11.Request(method=method, target=path, headers=list(sent.items())),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            writer.write(state.send(event) or b"")
        return await _answer(state, reader)
    except h11.ProtocolError as wrong:
        raise ConnectionError(f"no HTTP: {wrong}") from None
    finally:
        writer.close()


async def _answer(state: h11.Connection, reader: asyncio.StreamReader) -> Answer:
    status, content = 0, b""
    while True:
        event = state.next_event()
        if event is h11.NEED_DATA:
            state.receive_data(await reader.read(1 << 16))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            content += bytes(event.data)[: MAX_ANSWER - len(content)]
        elif isinstance(event, h11.EndOfMessage):
            return Answer(status, content)
        elif isinstance(event, h11.ConnectionClosed):
            raise ConnectionError("the connection ended before the answer")
