"""A proxy between an operator and the API server that injects faults on request.

Without rules every request passes, and watches pass line by line. It holds the credentials of the
API server, so that an operator needs none. Leases do not count as writes and have their own path.
"""

import contextlib
import json
import time
from dataclasses import dataclass, field
from functools import partial

import aiohttp
import yaml
from aiohttp import web
from local_cluster.ports import free_port

from springtide_operator.cluster.api.connection import Connection

HOST = "127.0.0.1"
PASSED_ON = ("Content-Type", "Date", "Retry-After")


@dataclass(eq=False)
class Call:
    """One request, and how it was answered."""

    verb: str
    path: str
    url: str
    """Path and query as they were sent."""
    query: dict
    headers: dict
    body: str
    number: int
    """Counts the writes from 1; 0 for what is none."""
    at: float = field(default_factory=time.monotonic)
    status: int = 0

    @property
    def watch(self):
        return self.query.get("watch") == "true"

    @property
    def lease(self):
        return "/leases" in self.path

    @property
    def kind(self):
        """The plural, as in /apis/batch/v1/namespaces/search/jobs/x."""
        parts = self.path.strip("/").split("/")
        after = parts[parts.index("namespaces") + 2 :] if "namespaces" in parts else parts[-1:]
        return after[0] if after else ""


@dataclass
class Answer:
    """What the operator gets: the parts of `body`, one after the other, as they come."""

    status: int
    body: object
    """An asynchronous iterator of bytes; of a watch's answer, of its lines."""
    headers: dict = field(default_factory=dict)


class Cut(Exception):
    """Raised by a rule or a body: the connection breaks at once."""


class Proxy:
    """Forwards to the API server; `rules` see every call, the first one first.

    A rule is called with the call and with `pass_on`, and returns an `Answer`: that of
    `await pass_on()`, another one, or a changed one.
    """

    def __init__(self, kubeconfig, folder):
        self._upstream = kubeconfig
        self.kubeconfig = folder / "through-the-proxy.yaml"
        self.rules = []
        self.calls = []
        self.at_once = self.most_at_once = 0
        """Requests in flight, watches apart."""
        self._numbers = 0

    async def __aenter__(self):
        self._server = await Connection.open(self._upstream)
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        self.port = free_port()
        await self.accept()
        self.kubeconfig.write_text(yaml.safe_dump(_without_credentials(self.port)))
        self.connection = await Connection.open(self.kubeconfig)
        return self

    async def __aexit__(self, *_):
        await self.connection.close()
        await self.refuse()
        await self._runner.cleanup()
        await self._server.close()

    async def accept(self):
        """Listen, on the same port as before."""
        self._site = web.TCPSite(self._runner, HOST, self.port, reuse_address=True)
        await self._site.start()

    async def refuse(self):
        """Break all connections and refuse new ones, as a server that is down."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        for each in self._runner.server.connections:
            if each.transport is not None:
                each.transport.abort()

    @contextlib.contextmanager
    def ruled(self, *rules):
        """Obey rules for a while, before those that there are."""
        self.rules[:0] = rules
        try:
            yield
        finally:
            for rule in rules:
                self.rules.remove(rule)

    @property
    def writes(self):
        return [call for call in self.calls if call.number]

    async def _handle(self, request):
        call = self._call(request, await request.text())
        self.calls.append(call)
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(self._counted(call))
            pass_on = partial(self._pass_on, call, stack)
            for rule in reversed(self.rules):
                pass_on = partial(rule, call, pass_on)
            try:
                answer = await pass_on()
                call.status = answer.status
                response = web.StreamResponse(status=answer.status, headers=answer.headers)
                await response.prepare(request)
                async for part in answer.body:
                    await response.write(part)
                await response.write_eof()
                return response
            except (Cut, aiohttp.ClientError) as error:
                request.transport.abort()
                raise ConnectionResetError from error

    def _call(self, request, body):
        path = request.path
        writes = request.method != "GET" and "/leases" not in path and "reviews" not in path
        self._numbers += writes
        number = self._numbers if writes else 0
        query, headers = dict(request.query), dict(request.headers)
        return Call(request.method, path, request.raw_path, query, headers, body, number)

    @contextlib.contextmanager
    def _counted(self, call):
        self.at_once += not call.watch
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            yield
        finally:
            self.at_once -= not call.watch

    async def _pass_on(self, call, stack):
        response = await self._server.send(
            call.verb,
            call.url,
            body=json.loads(call.body) if call.body else None,
            content_type=call.headers.get("Content-Type", "application/json"),
            timeout=aiohttp.ClientTimeout(total=None),
        )
        headers = {name: response.headers[name] for name in PASSED_ON if name in response.headers}
        if call.watch:
            await stack.enter_async_context(response)
            return Answer(response.status, lines(response), headers)
        async with response:
            return Answer(response.status, whole(await response.read()), headers)


async def lines(response):
    """Yield a watch's events, each with its end of line."""
    rest = b""
    async for chunk in response.content.iter_any():
        *parts, rest = (rest + chunk).split(b"\n")
        for part in parts:
            yield part + b"\n"


async def whole(body):
    """Yield a body in one part."""
    yield body


def _without_credentials(port):
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "proxy", "cluster": {"server": f"http://{HOST}:{port}"}}],
        "users": [{"name": "none", "user": {}}],
        "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "none"}}],
        "current-context": "proxy",
    }
