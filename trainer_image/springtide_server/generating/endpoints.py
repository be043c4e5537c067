"""The generate extension of the Open Inference Protocol: one prompt, answered with plain JSON.

POST /v2/models/{name}/generate answers with the whole response, /generate_stream with server-sent
events, each with the text that is new since the one before.
"""

from __future__ import annotations

import json
import logging
from contextlib import aclosing, asynccontextmanager
from time import perf_counter
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, StreamingResponse

from springtide_server import tensors
from springtide_server.answers import Outcome, Rejected
from springtide_server.batching import QueueFull
from springtide_server.disconnects import unless_disconnected
from springtide_server.generating.requests import Prompt, parse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response

    from springtide_server.service import Service, Serving

log = logging.getLogger("springtide.server")

HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Of streams: no proxy keeps or collects them."""


class Generating:
    """The request handlers."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def generate(self, request: Request) -> Response:
        """Return the response to a prompt and record the outcome."""
        started = perf_counter()
        outcome: Outcome = "error"
        try:
            async with self._prompt(request) as (serving, prompt):
                (text,) = (await _queued(request, serving, prompt))[:, 0].tolist()
            outcome, response = "ok", JSONResponse(_answer(serving, prompt, text))
        except Rejected as rejected:
            outcome, response = rejected.outcome, rejected.response()
        except ClientDisconnect:
            outcome, response = "disconnected", JSONResponse({"error": "client disconnected"}, 499)
        finally:
            self._service.metrics.observe_request(perf_counter() - started, outcome)
        return response

    async def generate_stream(self, request: Request) -> Response:
        """Stream the response to a prompt; its outcome is recorded at the end."""
        started = perf_counter()
        try:
            async with self._prompt(request) as (serving, prompt):
                parts = serving.streams.open(prompt.row)
        except QueueFull as full:
            return self._refused(Rejected(503, str(full), "overloaded"), started)
        except Rejected as rejected:
            return self._refused(rejected, started)
        except ClientDisconnect:
            self._service.metrics.observe_request(perf_counter() - started, "disconnected")
            return JSONResponse({"error": "client disconnected"}, 499)
        events = self._events(serving, prompt, parts, started)
        return StreamingResponse(events, media_type="text/event-stream", headers=HEADERS)

    async def _events(
        self, serving: Serving, prompt: Prompt, parts: AsyncGenerator[str], started: float
    ) -> AsyncIterator[bytes]:
        outcome: Outcome = "disconnected"
        try:
            async with aclosing(parts) as opened:
                async for text in opened:
                    yield _event(_answer(serving, prompt, text))
            outcome = "ok"
        except Exception as failed:
            log.exception("a stream of generated text failed")
            outcome = "error"
            yield _event({"error": f"internal server error: {type(failed).__name__}"})
        finally:
            self._service.metrics.observe_request(perf_counter() - started, outcome)

    def _refused(self, rejected: Rejected, started: float) -> Response:
        self._service.metrics.observe_request(perf_counter() - started, rejected.outcome)
        return rejected.response()

    @asynccontextmanager
    async def _prompt(self, request: Request) -> AsyncIterator[tuple[Serving, Prompt]]:
        """Read a request, whose body is counted until the block ends.

        Raises:
            Rejected: the request is not valid, or cannot be answered now.
            ClientDisconnect: the client disconnected.
        """
        name, known = request.path_params["name"], self._service.settings.model_name
        if name != known:
            raise Rejected(404, f"model {name[:80]!r} is not served here; use {known!r}")
        async with self._service.admission.body(request) as body:
            serving = self._service.serving_or_reject()
            if not serving.model.responds:
                raise Rejected(400, "this model generates no text; use infer")
            try:
                prompt = parse(body, serving.model)
            except tensors.Malformed as wrong:
                raise Rejected(400, str(wrong)) from None
            yield serving, prompt


async def _queued(request: Request, serving: Serving, prompt: Prompt) -> Any:
    try:
        return await unless_disconnected(request, serving.batcher.score([prompt.row]))
    except QueueFull as full:
        raise Rejected(503, str(full), "overloaded") from None


def _answer(serving: Serving, prompt: Prompt, text: str) -> dict[str, Any]:
    model = serving.model
    return {
        "model_name": model.name,
        "model_version": model.version,
        **({} if prompt.id is None else {"id": prompt.id}),
        "parameters": model.parameters,
        "text_output": text,
    }


def _event(content: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n".encode()
