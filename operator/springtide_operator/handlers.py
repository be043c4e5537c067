"""The process, by kopf: start, stop, signals and probes. What it runs knows nothing of kopf.

kopf asks nothing of the API server: our reflectors watch, because they alone stay true after a
gap, and a server that is away or refuses us must not end a process that starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

import kopf
import structlog
from aiohttp import web

from springtide_operator import logs, settings
from springtide_operator.assembly import Operator
from springtide_operator.cluster.connection import Connection
from springtide_operator.ports.progress import serve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = structlog.get_logger(__name__)


def main() -> int:
    """Run the operator until a signal or a loss; return the exit status."""
    try:
        chosen = settings.read(os.environ)
    except ValueError as error:
        sys.stderr.write(f"springtide: {error}\n")
        return 2
    logs.configure(chosen.log_level)
    return asyncio.run(run(chosen))


async def run(chosen: settings.Settings) -> int:
    """Run until SIGTERM (0), or until the Lease or a part is lost (1)."""
    connection = await Connection.open()
    operator = Operator(chosen, connection)
    stop = asyncio.Event()
    operator.ended.add_done_callback(lambda _: stop.set())
    try:
        await kopf.operator(
            registry=registry(operator, stop),
            settings=_quiet(),
            clusterwide=True,
            standalone=True,
            liveness_endpoint=f"http://0.0.0.0:{chosen.health_port}/healthz",
            stop_flag=stop,
        )
    finally:
        await connection.close()
    lost = operator.ended.done() and not operator.ended.cancelled()
    return 1 if lost and operator.ended.exception() is not None else 0


def registry(operator: Operator, stopped: asyncio.Event) -> kopf.OperatorRegistry:
    """Hang an operator into kopf's start, stop and probe; `stopped` is set at the end."""
    known = kopf.OperatorRegistry()
    starting: list[asyncio.Task[None]] = []
    servers: list[Callable[[], Awaitable[None]]] = []

    @kopf.on.login(registry=known)
    async def login(**_: Any) -> None:
        # Without credentials kopf's one look at the cluster's resources never begins. It would
        # find nothing that we need, and end the process where it is refused.
        await asyncio.Event().wait()

    @kopf.on.startup(registry=known)
    async def start(**_: Any) -> None:
        chosen = operator.settings
        metrics = web.Application()
        metrics.router.add_get("/metrics", operator.metrics_handler())
        servers.append(await serve(metrics, chosen.metrics_port))
        servers.append(await serve(operator.door.application(), chosen.progress_port))
        # Not awaited: the wait for the Lease may be long, and probes must be answered meanwhile.
        starting.append(asyncio.create_task(operator.start(), name="start"))

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
        return {"silence": dict(health.silence), "depth": health.depth, "lag": health.lag}

    return known


def _quiet() -> kopf.OperatorSettings:
    """Return settings by which kopf neither scans, posts nor lingers."""
    quiet = kopf.OperatorSettings()
    quiet.scanning.disabled = True
    quiet.posting.enabled = False
    quiet.process.ultimate_exiting_timeout = 10.0
    return quiet
