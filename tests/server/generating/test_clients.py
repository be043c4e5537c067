"""Clients that leave before they have their response, and streams that fail, over HTTP."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from trainer.panicking import panic

from springtide_server.model import load
from springtide_server.process import DrainingServer
from springtide_server.service import Service

GENERATE, STREAM = (f"/v2/models/model/{name}" for name in ("generate", "generate_stream"))


@asynccontextmanager
async def listening(settings):
    """Serve on a loopback port; yields the service and its address."""
    service = Service(replace(settings, host="127.0.0.1", port=0))
    scoring = asyncio.create_task(service.start(load(service.settings)).run())
    server = DrainingServer(service)
    serving = asyncio.create_task(server.serve())
    try:
        yield service, await server.address()
    finally:
        server.stop()
        await serving
        scoring.cancel()
        await asyncio.wait({scoring})


async def send(address, path, **content):
    """Send a request; return what reads the response, and what closes the connection."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    body = json.dumps(content).encode()
    writer.write(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    writer.write(body)
    return reader, writer


async def until(true):
    while not true():
        await asyncio.sleep(0.005)


def outcomes(service) -> dict[str, float]:
    """Count the requests of each outcome that had some."""
    return {
        sample.labels["outcome"]: sample.value
        for metric in service.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "springtide_server_request_seconds_count" and sample.value
    }


class Held:
    """The model of a service, blocked in the middle of a batch."""

    def __init__(self, service):
        self.begun, self.go_on, self.rows = threading.Event(), threading.Event(), 0
        score = service.serving.batcher._score

        def held(rows):
            self.rows += len(rows)
            self.begun.set()
            assert self.go_on.wait(60)
            return score(rows)

        service.serving.batcher._score = held


@pytest.mark.survives(
    "Requests",
    "a client that disconnects while its prompt waits",
    "no response is generated",
)
async def test_nothing_is_generated_for_a_client_that_disconnects_while_it_waits(responder):
    async with listening(responder.settings) as (service, address):
        held = Held(service)
        first, open_one = await send(address, GENERATE, text_input="red")
        await until(held.begun.is_set)
        _, leaving = await send(address, GENERATE, text_input="blue")
        await until(lambda: service.serving.batcher.rows_waiting)
        leaving.close()
        await until(lambda: not service.serving.batcher.rows_waiting)
        held.go_on.set()
        assert (await first.readline()).startswith(b"HTTP/1.1 200")
        open_one.close()

    assert held.rows == 1
    assert outcomes(service) == {"ok": 1, "disconnected": 1}


async def test_the_total_bytes_of_prompts_that_wait_are_limited(responder, hosted):
    body = {"text_input": "red " * 700}
    async with hosted(responder.settings, max_body=4096) as (client, service):
        held = Held(service)
        many = [asyncio.create_task(client.post(GENERATE, json=body)) for _ in range(40)]
        done, _ = await asyncio.wait(many, return_when=asyncio.FIRST_COMPLETED)
        held.go_on.set()
        statuses = [answer.status_code for answer in await asyncio.gather(*many)]

    assert next(iter(done)).result().json() == {
        "error": "requests in flight exceed 65536 bytes; retry later"
    }
    assert statuses.count(200) >= 16
    assert set(statuses) == {200, 503}


@pytest.mark.survives(
    "Requests",
    "a client that disconnects in the middle of a stream",
    "its generation ends after the token that is being computed",
)
async def test_a_stream_ends_when_its_client_leaves(responder):
    ended = threading.Event()

    def endless(row, observe):
        text = "red"
        while observe(text):
            text += " shoe"
            time.sleep(0.001)
        ended.set()
        return text

    async with listening(responder.settings) as (service, address):
        service.serving.streams._generate = endless
        reader, leaving = await send(address, STREAM, text_input="red")
        while not (line := await reader.readline()).startswith(b"data: "):
            pass
        leaving.transport.abort()
        assert await asyncio.to_thread(ended.wait, 60)
        await until(lambda: outcomes(service))

    assert json.loads(line.removeprefix(b"data: "))["text_output"] == "red"
    assert outcomes(service) == {"disconnected": 1}


async def test_a_stream_that_fails_is_logged_counted_and_ends_with_an_error(
    responder, hosted, caplog
):
    def failing(row, observe):
        observe("red")
        raise RuntimeError("my secret")

    async with hosted(responder.settings) as (client, service):
        service.serving.streams._generate = failing
        answer = await client.post(STREAM, json={"text_input": "red"})

    *_, last, _ = answer.text.split("\n\n")
    assert last == 'data: {"error": "internal server error: RuntimeError"}'
    assert outcomes(service) == {"error": 1}
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert record.getMessage() == "a stream of generated text failed"
    assert record.exc_info[0] is RuntimeError


async def test_a_stream_whose_tokenizer_panics_ends_with_an_error(responder, hosted):
    def panicking(row, observe):
        observe("red")
        panic()

    async with hosted(responder.settings) as (client, service):
        service.serving.streams._generate = panicking
        answer = await client.post(STREAM, json={"text_input": "red"})

    *_, last, _ = answer.text.split("\n\n")
    assert last == 'data: {"error": "internal server error: Panicked"}'
    assert outcomes(service) == {"error": 1}
