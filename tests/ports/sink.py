"""An HTTP server that receives notifications, and answers as a test says."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from patience import within

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


ENDING = web.AppKey("ending", asyncio.Event)


class Receiver:
    """Every request that came, and the answers to the next ones; then 204."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        """All that came, what was not accepted included."""
        self.accepted: list[dict[str, Any]] = []
        """What was answered with 204."""
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.answers: list[Answer] = []
        self.always: Answer | None = None
        """How to answer for good, after `answers`."""
        self.url = ""

    @property
    def ids(self) -> list[str]:
        return [each["id"] for each in self.events]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        event = await request.json()
        self.events.append(event)
        self.headers.append(dict(request.headers))
        self.paths.append(request.path_qs)
        answer = self.answers.pop(0) if self.answers else self.always
        if answer is not None:
            return await answer(request)
        self.accepted.append(event)
        return web.Response(status=204)

    async def until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        async with within(seconds):
            while not condition():
                await asyncio.sleep(0.01)


@asynccontextmanager
async def receiver(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    made = Receiver()
    application = web.Application()
    application[ENDING] = asyncio.Event()
    application.router.add_post("/{path:.*}", made.handle)
    server = TestServer(application, host="127.0.0.1", scheme="https" if tls else "http")
    await server.start_server(ssl=tls, shutdown_timeout=0)
    made.url = str(server.make_url("/events"))
    yield made
    application[ENDING].set()
    await server.close()


def status(code: int, **headers: str) -> Answer:
    """Answer with a status and headers; `_` in their names is `-`."""

    async def answer(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=code, headers=named)

    return answer


async def never(request: web.Request) -> web.StreamResponse:
    """Answer nothing until the server ends."""
    await request.app[ENDING].wait()
    return web.Response(status=503)


async def closes(request: web.Request) -> web.StreamResponse:
    """Close the connection without an answer."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def endless(request: web.Request) -> web.StreamResponse:
    """Accept, with a body that never ends."""
    answer = web.StreamResponse(status=200)
    await answer.prepare(request)
    while not request.app[ENDING].is_set():
        await answer.write(b"x" * 65536)
    return answer
