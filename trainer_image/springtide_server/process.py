"""The life of the process: listen, load, become ready, drain on SIGTERM, exit.

It listens before it loads, so that probes get an answer with a reason from the first second.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

import uvicorn

from springtide_server.app import build_app
from springtide_server.model import load
from springtide_server.service import Service

if TYPE_CHECKING:
    from types import FrameType

    from springtide_server.settings import Settings

log = logging.getLogger("springtide.server")

KEEP_ALIVE_SECONDS = 75
"""Longer than clients keep idle connections, so that it is they who close them."""
IN_FLIGHT_SECONDS = 20
"""What requests in flight get after the grace of the drain."""


async def serve(settings: Settings) -> None:
    """Serve until a signal comes, and drain.

    Raises:
        Refused: the artifact cannot be served.
    """
    service = Service(settings)
    server = DrainingServer(service)
    life = asyncio.create_task(_load_and_score(service))
    life.add_done_callback(lambda _: server.stop())
    await server.serve()
    if life.done():
        life.result()
    life.cancel()
    await asyncio.wait({life})
    log.info("drained")


async def _load_and_score(service: Service) -> None:
    if not service.settings.model_uri:
        log.info("not ready: %s", service.not_ready)
        await asyncio.Event().wait()
    model = await asyncio.to_thread(load, service.settings)
    batcher = service.start(model)
    fields = {"generation": model.version, "digest": model.digest, "inputs": model.inputs}
    log.info("ready", extra={"fields": fields})
    await batcher.run()


class DrainingServer(uvicorn.Server):
    """Uvicorn, but SIGTERM makes it unready first and stops it after the grace.

    A second signal ends the grace at once.
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

    def stop(self) -> None:
        """Close the listener and let requests in flight end."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; called between any two instructions, so the loop does the rest."""
        self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        grace = self._service.settings.drain_seconds
        if self._service.draining or self._service.serving is None:
            grace = 0.0
        self._service.draining = True
        log.info("draining", extra={"fields": {"seconds": grace}})
        self._loop.call_later(grace, self.stop)
