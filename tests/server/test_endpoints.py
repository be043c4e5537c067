"""Health, metrics, overload and disconnecting clients, tested on the ASGI application."""

import asyncio
import gc
import threading
from typing import get_args

import numpy as np
import pytest

from springtide_server import tensors
from springtide_server.answers import Outcome
from springtide_server.app import build_app
from springtide_server.service import Service
from springtide_server.settings import Settings
from springtide_server.tensors import InferenceRequest

INFER = "/v2/models/model/infer"


def sample(text: str, name: str) -> float:
    line = next(line for line in text.splitlines() if line.startswith(name))
    return float(line.rsplit(" ", 1)[1])


async def test_without_a_model_the_server_is_live_but_not_ready_with_a_reason(serve, ask):
    async with serve(Settings()) as client:
        live = await client.get("/v2/health/live")
        ready = await client.get("/v2/health/ready")
        model = await client.get("/v2/models/model/ready")
        infer = await client.post(INFER, json=ask(text=["red"]))

    reason = "MODEL_URI is not set: no generation has been rolled out yet"
    assert live.status_code == 200
    assert (ready.status_code, ready.json()) == (503, {"ready": False, "error": reason})
    assert (model.status_code, model.json()["error"]) == (503, reason)
    assert (infer.status_code, infer.json()) == (503, {"error": reason})
    assert infer.headers["retry-after"] == "1"


async def test_with_a_model_it_is_ready(texts, serve):
    async with serve(texts.settings) as client:
        ready = await client.get("/v2/health/ready")
        model = await client.get("/v2/models/model/ready")

    assert (ready.status_code, ready.json()) == (200, {"ready": True})
    assert (model.status_code, model.json()) == (200, {"name": "model", "ready": True})


async def test_requests_are_counted_by_generation_and_outcome(texts, serve, ask):
    async with serve(texts.settings) as client:
        await client.post(INFER, json=ask(text=["red", "blue"]))
        await client.post(INFER, json=ask(text=[]))
        seen = (await client.get("/metrics")).text

    count = "springtide_server_request_seconds_count"
    assert sample(seen, count + '{generation="3",outcome="ok"}') == 1
    assert sample(seen, count + '{generation="3",outcome="invalid"}') == 1
    assert sample(seen, 'springtide_server_batch_rows_sum{generation="3"}') == 2
    assert sample(seen, "springtide_server_waiting_rows") == 0
    assert sample(seen, "springtide_server_ready") == 1
    info = f'digest="{texts.artifact.digest}",generation="3",model="model"'
    assert sample(seen, f"springtide_server_model_info{{{info}}}") == 1


async def test_every_outcome_is_counted_from_0_on(serve):
    async with serve(Settings(generation="3")) as client:
        seen = (await client.get("/metrics")).text

    for outcome in get_args(Outcome):
        labels = f'{{generation="3",outcome="{outcome}"}}'
        assert sample(seen, f"springtide_server_request_seconds_count{labels}") == 0


async def test_a_newline_in_the_generation_is_escaped_in_the_metrics(serve):
    async with serve(Settings(generation='3"} 1\nforged 1')) as client:
        seen = (await client.get("/metrics")).text

    assert not any(line.startswith("forged") for line in seen.splitlines())


class Held:
    """The model of a service, blocked in the middle of a batch."""

    def __init__(self, service: Service):
        self.begun, self.go_on = threading.Event(), threading.Event()
        score = service.serving.batcher._score

        def held(pairs):
            self.begun.set()
            assert self.go_on.wait(60)
            return score(pairs)

        service.serving.batcher._score = held


async def until(true):
    while not true():
        await asyncio.sleep(0.001)


@pytest.mark.survives(
    "Requests",
    "more rows than the queue holds",
    "503 with Retry-After and both numbers; the waiting rows are answered",
)
async def test_a_full_queue_answers_503_with_retry_after(texts, hosted, ask):
    async with hosted(texts.settings, max_waiting=1) as (client, service):
        held = Held(service)
        scored = asyncio.create_task(client.post(INFER, json=ask(text=["red"])))
        await until(held.begun.is_set)
        waiting = asyncio.create_task(client.post(INFER, json=ask(text=["red"])))
        await until(lambda: service.serving.batcher.rows_waiting)
        refused = await client.post(INFER, json=ask(text=["red"]))
        held.go_on.set()
        answered = await asyncio.gather(scored, waiting)

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json() == {"error": "1 of at most 1 rows are waiting; retry later"}
    assert [answer.status_code for answer in answered] == [200, 200]


async def test_the_total_bytes_of_bodies_in_flight_are_limited(texts, hosted, ask):
    long = ask(text=["red " * 400] * 2)
    async with hosted(texts.settings, max_body=4096) as (client, service):
        held = Held(service)
        many = [asyncio.create_task(client.post(INFER, json=long)) for _ in range(40)]
        done, _ = await asyncio.wait(many, return_when=asyncio.FIRST_COMPLETED)
        held.go_on.set()
        statuses = [answer.status_code for answer in await asyncio.gather(*many)]
        after = await client.post(INFER, json=long)

    assert next(iter(done)).result().json() == {
        "error": "requests in flight exceed 65536 bytes; retry later"
    }
    assert statuses.count(200) >= 16
    assert set(statuses) == {200, 503}
    assert after.status_code == 200


@pytest.mark.survives(
    "Requests",
    "a client that disconnects",
    "its rows are not scored",
)
async def test_rows_of_a_client_that_disconnects_are_removed_from_the_queue(texts, hosted, ask):
    async with hosted(texts.settings) as (client, service):
        held = Held(service)
        scored = asyncio.create_task(client.post(INFER, json=ask(text=["red"])))
        await until(held.begun.is_set)
        await send_and_leave(service)
        await until(lambda: not service.serving.batcher.rows_waiting)
        held.go_on.set()
        assert (await scored).status_code == 200
        seen = (await client.get("/metrics")).text

    assert sample(seen, 'springtide_server_batch_rows_sum{generation="3"}') == 1
    count = 'springtide_server_request_seconds_count{generation="3",outcome="disconnected"}'
    assert sample(seen, count) == 1


async def send_and_leave(service):
    body = b'{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["red"]}]}'
    queued = [{"type": "http.request", "body": body}]

    async def receive():
        if queued:
            return queued.pop()
        await until(lambda: service.serving.batcher.rows_waiting)
        return {"type": "http.disconnect"}

    async def send(message):
        pass

    scope = {"type": "http", "method": "POST", "path": INFER, "headers": [], "query_string": b""}
    await build_app(service)(scope, receive, send)


@pytest.mark.survives(
    "Requests",
    "a client that sends its body very slowly",
    "408 with the time that it had",
)
async def test_a_client_that_sends_its_body_too_slowly_gets_408(texts, hosted):
    async def drip():
        while True:
            yield b" "
            await asyncio.sleep(0.01)

    async with hosted(texts.settings) as (client, service):
        service.admission._max_seconds = 0.05
        answer = await client.post(INFER, content=drip())

    assert (answer.status_code, answer.headers["connection"]) == (408, "close")
    assert answer.json() == {"error": "receiving the body took more than 0.05 s"}


async def test_a_model_that_returns_nan_gives_500_and_the_next_request_is_served(
    texts, hosted, ask
):
    async with hosted(texts.settings) as (client, service):
        model = service.serving.model
        service.serving.batcher._score = lambda rows: broken(model, rows)
        failed = await client.post(INFER, json=ask(text=["nan"]))
        answered = await client.post(INFER, json=ask(text=["red"]))

    assert failed.status_code == 500
    assert failed.json() == {"error": "internal server error: ArithmeticError"}
    assert answered.status_code == 200


def broken(model, rows) -> np.ndarray:
    if any(row.pair == ("nan", None) for row in rows):
        raise ArithmeticError("3 scores are not finite for: nan")
    return model.score(rows)


async def test_responses_of_a_draining_server_close_the_connection(texts, hosted, ask):
    async with hosted(texts.settings) as (client, service):
        service.draining = True
        ready = await client.get("/v2/health/ready")
        answer = await client.post(INFER, json=ask(text=["red"]))

    assert ready.status_code == 503
    assert ready.json()["error"] == "the server is shutting down"
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")


async def test_what_a_request_has_besides_its_rows_is_not_kept_while_it_waits(texts, hosted, ask):
    async with hosted(texts.settings) as (client, service):
        held = Held(service)
        body = {**ask(text=["red"]), "parameters": {"many": [{}] * 1000}}
        asked = asyncio.create_task(client.post(INFER, json=body))
        await until(held.begun.is_set)
        kept = [each for each in gc.get_objects() if isinstance(each, InferenceRequest)]
        held.go_on.set()
        assert (await asked).status_code == 200

    assert not kept


@pytest.mark.survives(
    "Requests",
    "an answer with hundred thousands of numbers",
    "other requests have their turn while it is written",
)
async def test_others_have_their_turn_while_a_long_answer_is_written(
    texts, hosted, ask, monkeypatch
):
    numbers = np.random.default_rng(1).random((512, 512), np.float32)
    turns, pieces = 0, []
    outputs = tensors.outputs

    def observed(*given):
        for piece in outputs(*given):
            pieces.append((len(piece), turns))
            yield piece

    async def another():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(tensors, "outputs", observed)
    async with hosted(texts.settings, max_batch=512) as (client, service):
        service.serving.batcher._score = lambda rows: numbers
        other = asyncio.create_task(another())
        asked = {**ask(text=["red"] * 512), "outputs": [{"name": "probabilities"}]}
        answer = await client.post(INFER, json=asked)
        other.cancel()

    (tensor,) = answer.json()["outputs"]
    assert tensor["shape"] == [512, 512]
    np.testing.assert_array_equal(np.array(tensor["data"], np.float32), numbers.ravel())
    taken = [turn for length, turn in pieces if length > 65536]
    assert len(taken) == 8
    assert len(set(taken)) == 8, "a turn after each"
    assert max(length for length, _ in pieces) < 1 << 20
