"""The lifecycle of the process: listen, load, become ready, drain on SIGTERM, exit.

It listens before it loads, so that probes get a response with a reason from the first second.
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
"""Longer than clients keep idle connections, so that clients close them."""
IN_FLIGHT_SECONDS = 20
"""Time limit of requests in flight after the grace period."""


async def serve(settings: Settings) -> None:
    """Serve until a signal is received, then drain.

    Raises:
        Refused: the artifact cannot be served.
    """
    service = Service(settings)
    server = DrainingServer(service)
    scoring = asyncio.create_task(_load_and_score(service))
    scoring.add_done_callback(lambda _: server.stop())
    await server.serve()
    if scoring.done():
        scoring.result()
    scoring.cancel()
    await asyncio.wait({scoring})
    log.info("drained")


async def _load_and_score(service: Service) -> None:
    if not service.settings.model_uri:
        log.info("not ready: %s", service.not_ready)
        await asyncio.Event().wait()
    model = await asyncio.to_thread(load, service.settings)
    batcher = service.start(model)
    fields = {
        "generation": model.version,
        "digest": model.digest,
        "inputs": model.inputs,
        "loaded_from": model.source,
    }
    log.info("ready", extra={"fields": fields})
    await batcher.run()


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

    def stop(self) -> None:
        """Close the listener and complete requests in flight."""
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start draining. Called by a signal handler, so the work is done in the event loop."""
        self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        grace = self._service.settings.drain_seconds
        if self._service.draining or self._service.serving is None:
            grace = 0.0
        self._service.draining = True
        log.info("draining", extra={"fields": {"seconds": grace}})
        self._loop.call_later(grace, self.stop)
