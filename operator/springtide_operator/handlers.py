"""The process and the watch of our own two kinds, by kopf. What it runs knows nothing of kopf.

kopf logs in, lists and watches, and its handlers feed the cache and the queue: they return nothing
and do nothing else, so that kopf writes nothing. Audits find what kopf does not report.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import sys
import time
from typing import TYPE_CHECKING, Any

import kopf
import structlog
from aiohttp import web

from springtide_operator import logs, settings
from springtide_operator.assembly import Operator
from springtide_operator.cluster.api.connection import Connection
from springtide_operator.cluster.watching.sessions import WATCH_SECONDS
from springtide_operator.ports.progress import serve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from springtide_operator.cluster.watching.auditor import Auditor

RELOGIN_SECONDS = 5.0
"""Seconds between reads of the credentials after they were refused."""

LAST_SECONDS = 15.0
"""From an error of kopf to the end of the process: few restarts while the error lasts."""

log = structlog.get_logger(__name__)


def main() -> int:
    """Run the operator until a signal or a failure; return the exit status."""
    try:
        chosen = settings.read(os.environ)
    except ValueError as error:
        sys.stderr.write(f"springtide: {error}\n")
        return 2
    logs.configure(chosen.log_level)
    return asyncio.run(run(chosen))


async def run(chosen: settings.Settings) -> int:
    """Run until SIGTERM (0), or until the Lease, a part or kopf's watch is lost (1)."""
    connection = await Connection.open()
    operator = Operator(chosen, connection)
    stop = asyncio.Event()
    operator.ended.add_done_callback(lambda _: stop.set())
    known = kopf.OperatorRegistry()
    feed(known, operator)
    run_with(known, operator, stop)
    endpoint = f"http://0.0.0.0:{chosen.health_port}/healthz"
    ended = kopf.operator(
        registry=known, liveness_endpoint=endpoint, stop_flag=stop, **scope(chosen)
    )
    # Before kopf's tasks, because at its end kopf cancels every task that came after its start.
    stopping = asyncio.create_task(stop.wait(), name="stopping")
    running = asyncio.create_task(ended, name="kopf")
    await asyncio.wait({stopping, running}, return_when=asyncio.FIRST_COMPLETED)
    status = await _status(operator, running)
    await connection.close()
    return status


async def _status(operator: Operator, running: asyncio.Task[None]) -> int:
    """Wait for the end of kopf and return the exit status.

    kopf does not survive a watch that ends with an error, and so the process ends: the next one
    lists everything. The kubelet's first restart comes at once, and would fail as soon.
    """
    last = time.monotonic() + LAST_SECONDS
    await asyncio.wait({running}, timeout=LAST_SECONDS)
    if not running.done():
        # 1.45.2: a watcher may swallow its cancellation after another one failed. All is stopped.
        log.error("kopf does not end")
        os._exit(1)
    if (error := running.exception()) is not None:
        log.error("kopf ended", error=str(error), exc_info=error)
        await asyncio.sleep(last - time.monotonic())
        return 1
    lost = operator.ended.done() and not operator.ended.cancelled()
    return 1 if lost and operator.ended.exception() is not None else 0


def scope(chosen: settings.Settings) -> dict[str, Any]:
    """Return what kopf watches and how, as arguments of kopf."""
    namespaces = [chosen.namespace] if chosen.namespace else []
    return {
        "settings": kopf_settings(),
        "namespaces": namespaces,
        "clusterwide": not namespaces,
        "standalone": True,
    }


def kopf_settings() -> kopf.OperatorSettings:
    """Return settings with which kopf retries without limit, writes nothing and ends in time."""
    chosen = kopf.OperatorSettings()
    chosen.process.ultimate_exiting_timeout = 10.0 + LAST_SECONDS
    chosen.scanning.disabled = True  # of namespaces and kinds that come and go
    chosen.posting.enabled = False
    chosen.networking.request_timeout = 10.0
    chosen.networking.error_backoffs = Backoffs()
    chosen.networking.enforce_retry_after = True
    chosen.watching.server_timeout = WATCH_SECONDS
    chosen.watching.inactivity_timeout = 70.0
    chosen.watching.chunk_size = 500
    chosen.queueing.idle_timeout = 1.0  # an event takes a moment, and a list starts many tasks
    # The default is a finalizer of other operators, which kopf removes where no handler needs it.
    chosen.persistence.finalizer = "springtide.dev/not-used-by-kopf"
    chosen.persistence.diffbase_storage = NoDiffs()
    return chosen


class Backoffs:
    """Seconds between the attempts of a request: doubled each time, with jitter, without limit.

    kopf gives up after the last of a sequence, and reads a new iterator for each request.
    """

    def __iter__(self) -> Iterator[float]:
        longest = 1.0
        while True:
            yield random.uniform(0.1, longest)
            longest = min(30.0, 2 * longest)


class NoDiffs(kopf.DiffBaseStorage):
    """Stores nothing: no handler needs differences, and computing them costs copies."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Return nothing to compare."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        """Return nothing to compare with."""
        return None

    def store(self, **_: Any) -> None:
        """Write nothing."""


def feed(known: kopf.OperatorRegistry, operator: Operator) -> None:
    """Let kopf log in and feed our two kinds to an operator."""
    logins = 0

    @kopf.on.login(registry=known)
    async def login(**_: Any) -> kopf.AiohttpSession:
        nonlocal logins
        await operator.working.wait()  # with the Lease, and not before the API server answers
        await operator.discoverable()
        if logins:
            await asyncio.sleep(RELOGIN_SECONDS)
            with contextlib.suppress(ConnectionError):  # the next request reads them again, too
                await operator.sessions.connection.reload(time.monotonic())
        logins += 1
        return kopf.AiohttpSession(
            server=operator.sessions.connection.server, aiohttp_session=operator.sessions.open()
        )

    for auditor in operator.auditors:
        kind = auditor.kind
        on_event = kopf.on.event(kind.group, kind.version, kind.plural, registry=known)
        on_event(_handler(auditor))


def _handler(auditor: Auditor) -> Callable[..., Awaitable[None]]:
    async def handle(event: Any, **_: Any) -> None:
        auditor.handle(event)

    return handle


def _ports(operator: Operator) -> list[tuple[str, web.Application, int]]:
    """Return what the process serves beside its health: setting, application and port."""
    metrics, chosen = web.Application(), operator.settings
    metrics.router.add_get("/metrics", operator.metrics_handler())
    return [
        ("SPRINGTIDE_METRICS_PORT", metrics, chosen.metrics_port),
        ("SPRINGTIDE_PROGRESS_PORT", operator.progress_server.application(), chosen.progress_port),
    ]


async def _serve(
    variable: str, application: web.Application, port: int
) -> Callable[[], Awaitable[None]]:
    try:
        return await serve(application, port)
    except OSError as error:
        # Permanent: kopf would try again after a minute, beside what is served already.
        raise kopf.PermanentError(f"{variable}: port {port}: {error.strerror}") from error


def run_with(known: kopf.OperatorRegistry, operator: Operator, stopped: asyncio.Event) -> None:
    """Connect an operator to kopf's start, stop and probe; `stopped` is set at the end."""
    starting: list[asyncio.Task[None]] = []
    servers: list[Callable[[], Awaitable[None]]] = []

    @kopf.on.startup(registry=known)
    async def start(**_: Any) -> None:
        for each in _ports(operator):
            servers.append(await _serve(*each))
        starting.append(operator.begin())  # not awaited: probes must be answered meanwhile

    @kopf.on.cleanup(registry=known)
    async def stop(**_: Any) -> None:
        for task in starting:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        await operator.stop()
        for close in servers:
            await close()
        stopped.set()  # or kopf waits 5 s for its own task that waits for this

    @kopf.on.probe(registry=known, id="work")
    def probe(**_: Any) -> dict[str, Any]:
        health = operator.health()
        if problems := health.problems():
            raise kopf.PermanentError("; ".join(problems))
        return {
            "silence": dict(health.silence),
            "depth": health.depth,
            "lag": health.lag,
            "scope": operator.scope(),
        }
