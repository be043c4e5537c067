"""Queries run in the background; their samples stay until newer ones are there."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from springtide_operator.lifecycle.state.plan import Query
from springtide_operator.ports.sampling import Sampling

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def sampling(client):
    awake = asyncio.Event()
    made = Sampling(client, lambda: NOON, lambda namespace, update: awake.set())
    return made, awake


def query(server, metric="errors"):
    return Query("shop-g1", metric, server.address, f"rate({metric}[1m])")


async def test_samples_are_there_once_the_update_is_woken(server, client):
    server.has("0.5")
    found, awake = sampling(client)
    found.start("search", "shop", [query(server), query(server, "latency")])
    assert found.of("search", "shop") == ()
    await awake.wait()
    first, second = found.of("search", "shop")
    assert (first.generation, first.metric, first.value, first.at) == (
        "shop-g1",
        "errors",
        0.5,
        NOON,
    )
    assert second.expression == "rate(latency[1m])"
    found.remove("search", "shop")
    assert found.of("search", "shop") == ()


async def test_the_numbers_of_a_moment_keep_it_and_their_part(server, client):
    server.has("7")
    found, awake = sampling(client)
    moment = NOON - timedelta(seconds=3)
    asked = replace(query(server), part="canary: bad", at=moment)
    found.start("search", "shop", [asked])
    await awake.wait()
    (sample,) = found.of("search", "shop")
    assert (sample.part, sample.at, sample.value) == ("canary: bad", moment, 7.0)


async def test_queries_in_progress_are_not_asked_again(server, client):
    server.has("0.5")
    found, awake = sampling(client)
    for _ in range(5):
        found.start("search", "shop", [query(server)])
    await awake.wait()
    assert len(server.asked) == 1
    awake.clear()
    found.start("search", "shop", [query(server)])
    await awake.wait()
    assert len(server.asked) == 2


async def test_a_server_that_does_not_answer_is_left_at_the_end(server, client):
    async def answer(request):
        await asyncio.sleep(60)

    server.answer = answer
    found, _ = sampling(client)
    found.start("search", "shop", [query(server)])
    await asyncio.sleep(0.05)
    await found.close()
    assert found.of("search", "shop") == ()
