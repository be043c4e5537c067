"""How many requests the operator sends: a burst, then a steady rate."""

import asyncio

from springtide_operator.cluster.api.limits import Limits


async def test_a_burst_is_sent_at_once_and_what_follows_at_the_rate(monkeypatch):
    now, waits = 0.0, []

    async def sleep(seconds):
        waits.append(round(seconds, 3))

    monkeypatch.setattr(asyncio, "sleep", sleep)
    limits = Limits(per_second=10, burst=3, in_flight=10, monotonic=lambda: now)
    for _ in range(5):
        async with limits.slot():
            pass
    assert waits == [0.1, 0.2]


async def test_after_a_pause_no_more_than_a_burst_is_sent_at_once(monkeypatch):
    now, waits = 0.0, []

    async def sleep(seconds):
        waits.append(round(seconds, 3))

    monkeypatch.setattr(asyncio, "sleep", sleep)
    limits = Limits(per_second=10, burst=2, in_flight=10, monotonic=lambda: now)
    now = 1000.0
    for _ in range(4):
        async with limits.slot():
            pass
    assert waits == [0.1, 0.2]
