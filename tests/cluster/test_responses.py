"""Failures of the API server as they come over the wire."""

import asyncio
import json

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.responses import failure_of

OWNED = [f'.spec.template.spec.containers[name="server"].env[name="V{n}"].value' for n in range(20)]
CONFLICT = {
    "kind": "Status",
    "status": "Failure",
    "reason": "Conflict",
    "code": 409,
    "message": "Apply failed with 20 conflicts",
    "details": {
        "causes": [{"reason": "FieldManagerConflict", "message": "x", "field": f} for f in OWNED]
    },
}


async def test_a_failure_that_comes_in_several_parts_is_read_to_its_end():
    async def answer(request):
        response, body = web.StreamResponse(status=409), json.dumps(CONFLICT).encode()
        await response.prepare(request)
        for part in (body[:1000], body[1000:2000], body[2000:]):
            await response.write(part)
            await asyncio.sleep(0.1)  # so that each part is read by itself
        return response

    application = web.Application()
    application.router.add_get("/", answer)
    async with TestClient(TestServer(application)) as client, client.get("/") as response:
        error = await failure_of(response, "PATCH /x")
    assert isinstance(error, errors.Conflict)
    assert error.fields == frozenset(OWNED)


def test_an_answer_of_a_proxy_is_an_error_of_its_status():
    body = {"error": "no healthy upstream", "details": "upstream connect error"}
    error = errors.from_status(503, body, "GET /x")
    assert isinstance(error, errors.Unavailable)
