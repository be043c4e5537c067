"""The client of Prometheus' HTTP API, against a server that speaks it, well or badly."""

import asyncio
from datetime import UTC, datetime

import pytest
from aiohttp import web

from springtide_operator.lifecycle.checks.prometheus_host import is_allowed
from springtide_operator.ports.prometheus import MAX_BYTES, Answer, Prometheus


async def test_one_series_is_a_number_and_the_query_is_sent_as_it_is(server, client):
    server.has("0.25")
    expression = 'sum(rate(x{a="b"}[1m])) > 0'
    assert await client.ask(f"{server.address}/select/0", expression) == Answer(0.25)
    (asked,) = server.asked
    assert (asked.method, asked.path) == ("GET", "/select/0/api/v1/query")
    assert asked.query["query"] == expression


async def test_a_query_about_a_moment_names_it(server, client):
    server.has("1")
    await client.ask(server.address, "x")
    await client.ask(server.address, "x", datetime(2026, 3, 1, 12, 0, 0, 250000, tzinfo=UTC))
    before, after = server.asked
    assert "time" not in before.query
    assert after.query["time"] == "1772366400.250"


async def test_a_scalar_is_a_number(server, client):
    server.says({"status": "success", "data": {"resultType": "scalar", "result": [1, "-2e3"]}})
    assert await client.ask(server.address, "-2000") == Answer(-2000.0)


@pytest.mark.parametrize(
    ("values", "problem", "invalid"),
    [
        ([], "no series", False),
        (["1", "2"], "2 series; aggregate them, such as with sum()", True),
        (["NaN"], "the value is nan", False),
        (["+Inf"], "the value is inf", False),
    ],
)
async def test_no_number_is_no_data_and_several_are_refused(
    server, client, values, problem, invalid
):
    server.has(*values)
    assert await client.ask(server.address, "x") == Answer(None, problem, invalid)


async def test_the_error_of_prometheus_is_quoted_and_cut_and_nothing_else(server, client):
    error = 'invalid parameter "query": 1:5: parse error:\nunexpected end of input ' + "x" * 999
    body = {"status": "error", "errorType": "bad_data", "error": error, "data": "SECRET"}
    server.says(body, 400)
    answer = await client.ask(server.address, "sum(")
    assert answer.problem.startswith('Prometheus: invalid parameter "query": 1:5: parse error:\\n')
    assert len(answer.problem) <= 128
    assert answer.invalid
    assert "SECRET" not in answer.problem


async def test_an_error_of_the_server_is_no_fault_of_the_query(server, client):
    server.says({"status": "error", "errorType": "timeout", "error": "query timed out"}, 503)
    assert await client.ask(server.address, "x") == Answer(
        None, "Prometheus: query timed out", False
    )


@pytest.mark.parametrize(
    "body",
    ["<html>internal page</html>", "[]", "1", '{"status": "success"}', "[" * 200_000],
    ids=["html", "list", "number", "no data", "deep"],
)
async def test_a_page_that_is_not_prometheus_is_not_quoted(server, client, body):
    async def answer(request: web.Request) -> web.Response:
        return web.Response(text=body)

    server.answer = answer
    found = await client.ask(server.address, "x")
    assert found == Answer(None, "HTTP 200, and not the answer of a Prometheus")


async def test_redirects_are_not_followed(server, client):
    async def answer(request: web.Request) -> web.Response:
        raise web.HTTPFound("/elsewhere")

    server.answer = answer
    found = await client.ask(server.address, "x")
    assert found.problem == "HTTP 302: redirects are not followed"
    assert len(server.asked) == 1


async def test_an_answer_of_100_mb_is_read_only_to_its_limit(server, client):
    sent = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(1600):
            await response.write(b"x" * 65536)
            sent += 65536
        return response

    server.answer = answer
    found = await client.ask(server.address, "x")
    assert found.problem == "the answer is longer than 256 KiB; a query must return one number"
    assert sent < 50 * MAX_BYTES


async def test_a_slow_server_and_one_that_is_away_are_no_data(server):
    host = server.address.removeprefix("http://")
    hurried = Prometheus(frozenset({host, "127.0.0.1:1"}), seconds=0.2)

    async def answer(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    server.answer = answer
    assert await hurried.ask(server.address, "x") == Answer(None, "no answer within 0.2s")
    away = await hurried.ask("http://127.0.0.1:1", "x")
    assert away.problem == "no connection or a broken answer (ClientConnectorError)"
    assert not away.invalid
    await hurried.close()


async def test_a_host_that_is_not_allowed_is_not_asked(server):
    strict = Prometheus(frozenset({"prometheus.monitoring:9090"}))
    found = await strict.ask(server.address, "x")
    host = server.address.removeprefix("http://")
    assert found == Answer(
        None, f"host {host} is not allowed (value operator.prometheusHosts)", True
    )
    assert server.asked == []


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("http://p.monitoring:9090", True),
        ("http://p.monitoring:9090/prefix", True),
        ("https://p.monitoring:9090", True),
        ("http://p.monitoring:9091", False),
        ("http://p.monitoring", False),
        ("http://p.monitoring:9090@169.254.169.254/", False),
        ("http://thanos", True),
        ("https://thanos", True),
        ("http://thanos:80", True),
        ("http://thanos:81", False),
    ],
)
def test_a_host_is_allowed_with_its_port(address, allowed):
    assert is_allowed(address, {"p.monitoring:9090", "thanos"}) is allowed
