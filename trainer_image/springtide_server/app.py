"""The endpoints: Open Inference Protocol v2 over HTTP, and /metrics.

Every invalid request gets an error response with a reason and does not affect other requests.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from importlib.metadata import version
from time import perf_counter
from typing import TYPE_CHECKING, Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from springtide_server import tensors
from springtide_server.answers import Outcome, Rejected
from springtide_server.batching import QueueFull
from springtide_server.disconnects import unless_disconnected
from springtide_server.generating.endpoints import Generating

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from springtide_server.model import Model, Row
    from springtide_server.service import Service, Serving
    from springtide_trainer.tasks.task import OutputTensor

WARM_UP_HEADER = "springtide-warm-up"
"""Header of the server's queries to itself, with their key."""
LONG_PIECE = 1 << 16
"""Bytes of a response, in a row, after which other requests have their turn."""


@dataclass(frozen=True)
class Inference:
    """What a request asks for."""

    id: str | None
    rows: Sequence[Row]
    requested: Sequence[OutputTensor]


def build_app(service: Service) -> ASGIApp:
    """Build the ASGI application of a service."""
    endpoints, generating = Endpoints(service), Generating(service)
    app = Starlette(
        routes=[
            Route("/v2", endpoints.server),
            Route("/v2/health/live", endpoints.live),
            Route("/v2/health/ready", endpoints.ready),
            Route("/v2/models/{name}", endpoints.model),
            Route("/v2/models/{name}/ready", endpoints.model_ready),
            Route("/v2/models/{name}/infer", endpoints.infer, methods=["POST"]),
            Route("/v2/models/{name}/generate", generating.generate, methods=["POST"]),
            Route(
                "/v2/models/{name}/generate_stream", generating.generate_stream, methods=["POST"]
            ),
            Route("/metrics", endpoints.metrics),
        ],
        exception_handlers={
            Rejected: _rejected,
            HTTPException: _http_error,
            Exception: _server_error,
        },
    )
    return _close_connections_while_draining(app, service)


class Endpoints:
    """The request handlers."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def server(self, _: Request) -> Response:
        """Return the server's name and version."""
        return JSONResponse(
            {"name": "springtide-server", "version": version("springtide"), "extensions": []}
        )

    async def live(self, _: Request) -> Response:
        """Return 200."""
        return JSONResponse({"live": True})

    async def ready(self, _: Request) -> Response:
        """Return 200 if the server is ready, else 503 with the reason."""
        return _readiness({}, self._service.not_ready)

    async def model(self, request: Request) -> Response:
        """Return the model's inputs, outputs and version."""
        self._check_name(request)
        return JSONResponse(self._service.serving_or_reject().model.metadata())

    async def model_ready(self, request: Request) -> Response:
        """Return 200 if the model is ready, else 503 with the reason."""
        name = self._check_name(request)
        return _readiness({"name": name}, self._service.not_ready)

    async def metrics(self, _: Request) -> Response:
        """Return the metrics in Prometheus's text format."""
        text = generate_latest(self._service.metrics.registry)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def infer(self, request: Request) -> Response:
        """Score the rows of a request and record its outcome."""
        started = perf_counter()
        outcome: Outcome = "error"
        key = request.headers.get(WARM_UP_HEADER, "")
        warm_up = self._service.is_warm_up(key)
        try:
            self._check_name(request)
            async with self._service.admission.body(request) as body:
                serving = self._service.serving_or_reject(key)
                content = await _predict(request, body, serving)
            response: Response = Response(content, media_type="application/json")
            outcome = "ok"
        except Rejected as rejected:
            outcome, response = rejected.outcome, rejected.response()
        except ClientDisconnect:
            # The response is not read; 499 is the status that proxies log for this.
            outcome, response = "disconnected", JSONResponse({"error": "client disconnected"}, 499)
        finally:
            if not warm_up:
                self._service.metrics.observe_request(perf_counter() - started, outcome)
        return response

    def _check_name(self, request: Request) -> str:
        name, known = request.path_params["name"], self._service.settings.model_name
        if name != known:
            raise Rejected(404, f"model {name[:80]!r} is not served here; use {known!r}")
        return known


async def _predict(request: Request, body: bytes, serving: Serving) -> bytes:
    """Score the rows of a request and return the body of its response."""
    wanted, model = _read(body, serving.model), serving.model
    try:
        scores = await unless_disconnected(request, serving.batcher.score(wanted.rows))
    except QueueFull as full:
        raise Rejected(503, str(full), "overloaded") from None
    known = {
        "model_name": model.name,
        "model_version": model.version,
        **({} if wanted.id is None else {"id": wanted.id}),
        "parameters": model.parameters,
    }
    made = bytearray(to_json(known)[:-1] + b',"outputs":')
    for piece in tensors.outputs(scores, wanted.requested):
        made += piece
        if len(piece) > LONG_PIECE:
            await asyncio.sleep(0)
    return bytes(made + b"}")


def _read(body: bytes, model: Model) -> Inference:
    """Read a request, of which nothing else is kept while it waits."""
    try:
        parsed = tensors.parse(body)
        rows = model.rows(parsed.inputs)
        return Inference(parsed.id, rows, parsed.requested_outputs(model.outputs_of(rows)))
    except tensors.Malformed as wrong:
        raise Rejected(400, str(wrong)) from None


def _readiness(content: dict[str, Any], reason: str) -> Response:
    if reason:
        return JSONResponse({**content, "ready": False, "error": reason}, 503)
    return JSONResponse({**content, "ready": True})


def _rejected(_: Request, rejected: Exception) -> Response:
    assert isinstance(rejected, Rejected)
    return rejected.response()


def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)


def _server_error(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"internal server error: {type(error).__name__}"}, 500)


def _close_connections_while_draining(app: ASGIApp, service: Service) -> ASGIApp:
    """Send `Connection: close` while draining, so clients reconnect to another pod."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_header(message: Message) -> None:
            if message["type"] == "http.response.start" and service.draining:
                message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
            await send(message)

        await app(scope, receive, send_with_header)

    return wrapped
