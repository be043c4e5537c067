"""The lifecycle of the process: listen, load, warm up, become ready, drain on SIGTERM, exit.

It listens before it loads, so that probes get a response with a reason from the first second.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from functools import partial
from typing import TYPE_CHECKING

import uvicorn

from springtide_server.app import WARM_UP_HEADER, build_app
from springtide_server.daemon_threads import in_daemon_thread
from springtide_server.loading.fetch import place
from springtide_server.model import load
from springtide_server.service import Service
from springtide_server.warm_up.asking import Target, warm_up
from springtide_server.warm_up.http import Address
from springtide_server.warm_up.queries import beside

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from springtide_server.settings import Settings

log = logging.getLogger("springtide.server")

KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep idle connections, so that clients close them."""
IN_FLIGHT_SECONDS = 20
"""Time limit of requests in flight after the grace period."""


async def serve(settings: Settings) -> None:
    """Serve until a signal is received, then drain.

    A thread that loads a model is not waited for: storage that does not answer can hold it.

    Raises:
        Refused: the artifact cannot be served.
        OSError: the address cannot be listened on.
    """
    service = Service(settings)
    server = DrainingServer(service)
    scoring = asyncio.create_task(_load_and_score(service, server))
    scoring.add_done_callback(lambda _: server.stop())
    server.give_up = scoring.cancel
    try:
        await server.serve()
    except SystemExit:  # of uvicorn, which has logged the error of the system
        where = f"{settings.host}:{settings.port}"
        raise OSError(
            f"cannot listen on {where}; set SPRINGTIDE_HOST and SPRINGTIDE_PORT to an address of "
            "the pod that no other container of it has"
        ) from None
    if scoring.done() and not scoring.cancelled():
        scoring.result()
    scoring.cancel()
    await asyncio.wait({scoring})
    log.info("drained")


async def _load_and_score(service: Service, server: DrainingServer) -> None:
    if not service.settings.model_uri:
        log.info("not ready: %s", service.not_ready)
        await asyncio.Event().wait()
    model = await in_daemon_thread(partial(load, service.settings), "loading")
    if service.settings.has_warm_up:
        service.warm_up_key = secrets.token_hex()
    scoring = asyncio.create_task(service.start(model).run())
    try:
        if service.warm_up_key:
            await _warm_up(service, server)
        fields = {
            "generation": model.version,
            "digest": model.digest,
            "inputs": model.inputs,
            "loaded_from": model.source,
        }
        log.info("ready", extra={"fields": fields})
        await scoring
    finally:
        scoring.cancel()
        await asyncio.wait({scoring})


async def _warm_up(service: Service, server: DrainingServer) -> None:
    """Answer the warm-up queries by the way of every request; ready afterwards in any case."""
    settings = service.settings

    async def target() -> Target:
        headers = {WARM_UP_HEADER: service.warm_up_key}
        return Target(await server.address(), settings.model_name, headers=headers)

    file = beside(place(settings.model_uri))
    seconds = settings.warm_up_seconds
    service.metrics.warm_up.observe(
        await warm_up(file, settings.model_digest, target, seconds=seconds)
    )
    service.warm_up_key = ""


class DrainingServer(uvicorn.Server):
    """A uvicorn server that is not ready after SIGTERM and stops after a grace period.

    A second signal ends the grace period.
    """

    def __init__(self, service: Service) -> None:
        settings = service.settings
        config = uvicorn.Config(
            build_app(service),
            host=settings.host,
            port=settings.port,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=IN_FLIGHT_SECONDS,
        )
        super().__init__(config)
        self._service = service
        self._loop = asyncio.get_running_loop()
        self.give_up: Callable[[], object] = lambda: None
        """Ends loading and warm-up, when the server is stopped before it is ready."""

    async def address(self) -> Address:
        """Return where it listens, from this machine, once it does."""
        while not self.started:
            await asyncio.sleep(0.01)
        host, port = self.servers[0].sockets[0].getsockname()[:2]
        return Address({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port)

    def stop(self) -> None:
        """Close the listener and complete requests in flight."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start draining. Called by a signal handler, so the work is done in the event loop."""
        self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        grace = self._service.settings.drain_seconds
        if self._service.draining or not self._service.serves:
            grace = 0.0
        if not self._service.serves:
            self.give_up()
        self._service.draining = True
        log.info("draining", extra={"fields": {"seconds": grace}})
        self._loop.call_later(grace, self.stop)
