"""The reference server answers queries of real rows to itself before it is ready."""

import asyncio
import json
import signal
from contextlib import asynccontextmanager
from dataclasses import replace
from shutil import copytree

import httpx
import pyarrow as pa
import pytest

from springtide_server import process
from springtide_server.app import WARM_UP_HEADER
from springtide_server.service import Service
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.evaluation.warm_up import content, requests
from springtide_trainer.storage import local_path, uri_of, warm_up_file

INFER = "/v2/models/model/infer"
ROWS = 5


def copied(made, tmp_path):
    """Copy an artifact, beside which a test can write; returns its settings."""
    folder = tmp_path / local_path(made.artifact.uri).name
    copytree(local_path(made.artifact.uri), folder)
    settings = replace(made.settings, model_uri=uri_of(folder), host="127.0.0.1", port=0)
    return replace(settings, drain_seconds=0)


def queries(settings, *names):
    """Queries of single rows and of all rows, with these inputs or those of the model."""
    names = names or Preprocess.read(local_path(settings.model_uri)).inputs
    columns = {
        name if name in ("text", "text_pair") else f"feature:{name}": [
            "red shoe " * (1 + at) for at in range(ROWS)
        ]
        for name in names
    }
    return requests(pa.table(columns), [[at] for at in range(ROWS)], names)


def write(settings, asked):
    file = warm_up_file(local_path(settings.model_uri))
    file.write_bytes(content(settings.model_digest, asked))
    return file


@asynccontextmanager
async def running(settings):
    """Run a server on a loopback port; yields a client and the service, before it is ready."""
    service = Service(settings)
    server = process.DrainingServer(service)
    tasks = [asyncio.create_task(process._load_and_score(service, server))]
    tasks.append(asyncio.create_task(server.serve()))
    address = await server.address()
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as client:
            yield client, service
    finally:
        server.stop()
        tasks[0].cancel()
        await asyncio.wait(tasks)


async def until_ready(client):
    while (await client.get("/v2/health/ready")).status_code != 200:
        await asyncio.sleep(0.02)


async def counts(client):
    lines = (await client.get("/metrics")).text.splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("springtide"))
    asked = "springtide_warm_up_queries_total"
    found = {
        name: int(float(values[f'{asked}{{outcome="{name}"}}']))
        for name in ("answered", "refused", "failed", "unanswered")
    }
    found = {name: count for name, count in found.items() if count}
    requested = sum(
        float(value)
        for name, value in values.items()
        if name.startswith("springtide_server_request_seconds_count")
    )
    batches = next(
        float(value)
        for name, value in values.items()
        if name.startswith("springtide_server_batch_rows_count")
    )
    return found, int(float(values["springtide_warm_up_incomplete"])), (requested, batches)


@pytest.mark.parametrize("task", ["texts", "pairs", "features", "prices", "ranker", "topics"])
async def test_the_server_of_every_task_answers_its_queries_and_counts_no_request(
    request, tmp_path, task
):
    settings = copied(request.getfixturevalue(task), tmp_path)
    write(settings, queries(settings))

    async with running(settings) as (client, _):
        await until_ready(client)
        assert await counts(client) == ({"answered": ROWS + 1}, 0, (0, 0))


async def test_an_imported_model_has_no_queries_and_is_ready(texts, tmp_path):
    async with running(copied(texts, tmp_path)) as (client, _):
        await until_ready(client)
        assert await counts(client) == ({}, 0, (0, 0))


async def test_before_the_queries_are_answered_it_is_not_ready_and_refuses_requests(
    texts, tmp_path, ask
):
    # A row waits for others: each of the five queries takes as long as the delay.
    settings = replace(copied(texts, tmp_path), max_delay=0.4)
    write(settings, queries(settings))

    async with running(settings) as (client, service):
        while not service.warm_up_key:
            await asyncio.sleep(0.01)
        stated = await client.get("/v2/health/ready")
        refused = await client.post(INFER, json=ask(text=["red"]))
        guessed = await client.post(INFER, json=ask(text=["red"]), headers={WARM_UP_HEADER: "x"})
        described = await client.get("/v2/models/model")
        reason = f"model {settings.model_digest} is answering warm-up queries"
        assert stated.json() == {"ready": False, "error": reason}
        for answer in (stated, refused, guessed, described):
            assert (answer.status_code, answer.json()["error"]) == (503, reason)

        key = service.warm_up_key
        await until_ready(client)
        assert await counts(client) == ({"answered": ROWS + 1}, 0, (2, 0))
        later = await client.post(INFER, json=ask(text=["red"]), headers={WARM_UP_HEADER: key})
        assert later.status_code == 200
        assert (await counts(client))[2] == (3, 1)


@pytest.mark.survives(
    "Model",
    "warm-up queries with other input tensors than those of the model",
    "refused with 400 each; the server is ready afterwards, and its metric is 1",
)
async def test_queries_that_do_not_fit_the_model_do_not_keep_it_from_serving(
    texts, tmp_path, ask, caplog
):
    settings = copied(texts, tmp_path)
    write(settings, [{}, {"inputs": "text"}, *queries(settings, "text", "text_pair")])
    caplog.set_level("INFO")

    async with running(settings) as (client, _):
        await until_ready(client)
        assert await counts(client) == ({"refused": ROWS + 3}, 1, (0, 0))
        assert (await client.post(INFER, json=ask(text=["red"]))).status_code == 200
    (line,) = (each for each in caplog.records if each.message == "warmed up")
    assert line.levelname == "WARNING"
    assert line.fields.items() >= {"refused": ROWS + 3, "answered": 0}.items()


async def test_a_file_that_is_not_usable_does_not_keep_it_from_serving(texts, tmp_path, caplog):
    settings = copied(texts, tmp_path)
    file = write(settings, queries(settings))
    with file.open("ab") as longer:
        longer.truncate(100_000_000)

    async with running(settings) as (client, _):
        await until_ready(client)
        assert await counts(client) == ({}, 1, (0, 0))
    (line,) = (each for each in caplog.records if each.message == "warmed up")
    assert line.fields["problem"] == f"{file} is larger than 4194304 bytes"


@pytest.mark.survives(
    "Model",
    "warm-up queries that take longer than their time limit",
    "the server is ready at its end; the metric counts those that were not answered",
)
async def test_the_time_limit_ends_a_warm_up(texts, tmp_path):
    settings = replace(copied(texts, tmp_path), max_delay=60.0, warm_up_seconds=4)
    write(settings, queries(settings))

    async with running(settings) as (client, _):
        await until_ready(client)
        assert await counts(client) == ({"unanswered": ROWS + 1}, 1, (0, 0))


async def test_a_limit_of_0_sends_none(texts, tmp_path):
    settings = replace(copied(texts, tmp_path), warm_up_seconds=0)
    write(settings, queries(settings))

    async with running(settings) as (client, _):
        await until_ready(client)
        assert await counts(client) == ({}, 0, (0, 0))


async def test_a_query_that_breaks_the_model_does_not_keep_it_from_serving(
    texts, tmp_path, monkeypatch
):
    settings = copied(texts, tmp_path)
    write(settings, queries(settings))
    load = process.load

    def breaking(settings):
        model = load(settings)
        predict = model.scorer.predict

        def fail_for_the_longest(pairs, *given):
            if len(pairs) == 1 and len(pairs[0][0]) > 9 * (ROWS - 1):
                raise MemoryError
            return predict(pairs, *given)

        object.__setattr__(model.scorer, "predict", fail_for_the_longest)
        return model

    monkeypatch.setattr(process, "load", breaking)
    async with running(settings) as (client, _):
        await until_ready(client)
        assert await counts(client) == ({"answered": ROWS, "failed": 1}, 1, (0, 0))


def test_a_process_warms_up_and_one_that_is_stopped_meanwhile_exits_at_once(
    texts, tmp_path, start, ask
):
    settings = copied(texts, tmp_path)
    write(settings, queries(settings))
    env = {"MODEL_URI": settings.model_uri, "MODEL_DIGEST": settings.model_digest}
    serving = start(**env, SPRINGTIDE_HOST="0.0.0.0", DRAIN_SECONDS="0")
    slow = start(**env, SPRINGTIDE_MAX_DELAY_MS="10000", DRAIN_SECONDS="3600")

    serving.wait_for(200)
    answered = serving.post(INFER, json=ask(text=["red"]))
    serving.popen.send_signal(signal.SIGTERM)
    while "answering warm-up queries" not in slow.wait_for(503).json()["error"]:
        pass
    slow.popen.send_signal(signal.SIGTERM)
    log, stopped = serving.output(), slow.output()

    assert answered.status_code == 200
    ours = [line for line in log if line["logger"].startswith("springtide.")]
    assert [line["message"] for line in ours] == ["warmed up", "ready", "draining", "drained"]
    assert (ours[0]["answered"], ours[0]["level"]) == (ROWS + 1, "info")
    assert "shoe" not in json.dumps(log)
    ours = [line for line in stopped if line["logger"].startswith("springtide.")]
    assert [line["message"] for line in ours] == ["draining", "drained"]
    assert ours[0]["seconds"] == 0
    assert (serving.popen.returncode, slow.popen.returncode) == (0, 0)
