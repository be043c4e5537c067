"""While a Lease is renewed writes are allowed at all times, also where answers are slow."""

import asyncio
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from cluster.skipped_time import run

from springtide_operator.cluster.api import errors, lease


class SlowServer:
    """Answers each request for the Lease after some seconds."""

    timeout = 10.0
    clock = SimpleNamespace(now=lambda: datetime(2026, 1, 1, tzinfo=UTC))

    def __init__(self, seconds):
        self.seconds = seconds

    async def get(self, *_):
        await asyncio.sleep(self.seconds)
        raise errors.NotFound("none yet")

    async def create(self, _, body):
        await asyncio.sleep(self.seconds)
        return body

    replace = create


@pytest.mark.parametrize(("seconds", "answer"), [(30.0, 4.0), (15.0, 0.6)])
def test_slow_answers_leave_no_time_without_writes(monkeypatch, seconds, answer):
    async def main(loop):
        monkeypatch.setattr(lease, "time", loop)
        held = lease.Lease(SlowServer(answer), "here", "operator", "one", seconds=seconds)
        await held.acquire()
        keeping = asyncio.create_task(held.keep())
        for _ in range(600):
            assert held.fresh, loop.time()
            await asyncio.sleep(0.1)
        keeping.cancel()

    run(main)


async def test_a_lease_in_a_namespace_that_does_not_exist_is_reported_while_it_is_waited_for():
    server = SlowServer(0.0)
    held = lease.Lease(server, "does-not-exist", "operator", "one")
    server.create = server.get
    assert not await held._try()
    assert held.last_error == "none yet"
    del server.create
    assert await held._try()
    assert held.last_error == ""
