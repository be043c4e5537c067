"""`python -m springtide_server warm-up`: runs the sidecar with an endpoint for its probe."""

from __future__ import annotations

import argparse
import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from springtide_server.warm_up.http import Address
from springtide_server.warm_up.metrics import WarmUpMetrics
from springtide_server.warm_up.sidecar import Options, Sidecar
from springtide_trainer.objects.store import Place, is_object_uri, place_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from starlette.requests import Request


def main(arguments: Sequence[str]) -> None:
    """Run until a signal is received.

    Raises:
        Refused: --url or --artifacts is not valid.
    """
    given = _parser().parse_args(arguments)
    options = Options(
        server=Address.of(given.url),
        model=given.model,
        artifacts=given.artifacts,
        digest=os.environ.get("MODEL_DIGEST", ""),
        seconds=given.seconds,
    )
    asyncio.run(_run(options, given.host, given.port))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m springtide_server",
        description="Send the warm-up queries of the generation MODEL_DIGEST to a server, and "
        "answer GET /ready with 200 afterwards.",
    )
    command = parser.add_subparsers(required=True, metavar="warm-up").add_parser("warm-up")
    command.add_argument("--url", default="http://127.0.0.1:8080", help="the server")
    command.add_argument("--model", default="model", help="name of the model in its paths")
    command.add_argument(
        "--artifacts",
        type=_artifacts,
        required=True,
        help="folder <storage>/<namespace>/<update>/artifacts, as it is mounted here, or its URI "
        "in an object store",
    )
    command.add_argument(
        "--seconds", type=_seconds, default=30.0, help="time limit of all queries (default 30)"
    )
    command.add_argument("--host", default="0.0.0.0", help="address to listen on")
    command.add_argument("--port", type=int, default=8090, help="port to listen on (default 8090)")
    return parser


def _artifacts(text: str) -> Path | Place:
    return place_of(text, "--artifacts") if is_object_uri(text) else Path(text)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError("must be above 0 and at most 3600")
    return value


async def _run(options: Options, host: str, port: int) -> None:
    registry = CollectorRegistry()
    sidecar = Sidecar(options, WarmUpMetrics(registry))
    config = uvicorn.Config(
        _app(sidecar, registry),
        host=host,
        port=port,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    running = asyncio.create_task(sidecar.run())
    running.add_done_callback(lambda _: setattr(server, "should_exit", True))
    await server.serve()
    if running.done():
        running.result()
    running.cancel()
    await asyncio.wait({running})


class _Server(uvicorn.Server):
    """A uvicorn server for which a signal is no failure: the process exits with 0."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True


def _app(sidecar: Sidecar, registry: CollectorRegistry) -> Starlette:
    async def ready(_: Request) -> Response:
        reason = sidecar.not_ready
        content = {"ready": not reason} | ({"error": reason} if reason else {})
        return JSONResponse(content, 503 if reason else 200)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return Starlette(routes=[Route("/ready", ready), Route("/metrics", metrics)])
