import asyncio

import pytest
from aiohttp import web
from ports.sending import Sending
from ports.sink import receiver

from springtide_operator.ports.prometheus import Prometheus


class Server:
    """A server that answers one way, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answer = web.json_response
        self.asked: list[web.Request] = []
        self.address = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request)
        return await self.answer(request)

    def says(self, body: object, status: int = 200) -> None:
        async def answer(request: web.Request) -> web.Response:
            return web.json_response(body, status=status)

        self.answer = answer

    def has(self, *values: str) -> None:
        """Answer with one series for each value."""
        result = [{"metric": {"n": str(n)}, "value": [1, v]} for n, v in enumerate(values)]
        self.says({"status": "success", "data": {"resultType": "vector", "result": result}})


@pytest.fixture
async def server():
    made = Server()
    application = web.Application()
    application.router.add_route("*", "/{any:.*}", made.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest.fixture
async def client(server):
    made = Prometheus(frozenset({server.address.removeprefix("http://")}))
    yield made
    await made.close()


@pytest.fixture
async def sink():
    async with receiver() as made:
        yield made


@pytest.fixture
async def sending():
    made = []

    def start(url, **sink):
        made.append(Sending(url, **sink))
        return made[-1]

    yield start
    for each in made:
        each.task.cancel()
    ended = await asyncio.gather(*(each.task for each in made), return_exceptions=True)
    assert all(isinstance(each, asyncio.CancelledError) for each in ended), ended
