"""Many updates at once: all finish, none starves another, requests stay within their limits."""

import asyncio
import resource
import time

import pytest
from faults.crowd import Crowd, open_server, populate
from faults.playing import Recorder
from handlers.edge import Edge
from local_cluster.apiserver import ApiServer

from springtide_operator.assembly import Operator
from springtide_operator.cluster.api.client import Client
from springtide_operator.cluster.api.clock import ServerClock
from springtide_operator.cluster.api.connection import Connection
from springtide_operator.cluster.api.limits import Limits
from springtide_operator.settings import Settings

pytestmark = pytest.mark.apiserver

MOST_PER_SECOND = 50
"""Requests that the operator is allowed in the long run, and twice as many at once."""
MOST_PROBES = 3
MEGABYTES_EACH = 1.0
"""Memory that one update may cost, stand-ins and all."""


@pytest.fixture
def empty():
    """An API server for this test alone: the operator handles all its namespaces."""
    server = ApiServer()
    try:
        open_server(server)
        yield server
    finally:
        server.close()


def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def crowd(server, large, small, seconds):
    """Create that many in two namespaces before the operator starts; wait for all."""
    connection = await Connection.open(server.kubeconfig)
    limits = Limits(per_second=2000, burst=1000, in_flight=100, monotonic=time.monotonic)
    client = Client(connection, ServerClock(time.monotonic), limits)
    watching = Crowd(client)
    await populate(client, "large", large)
    await populate(client, "small", small)
    watching.watch()
    settings = Settings(
        "trainer",
        "http://operator:8080",
        max_probes=MOST_PROBES,
        client_qps=MOST_PER_SECOND,
        client_burst=2 * MOST_PER_SECOND,
    )
    operator, recorder = Operator(settings, connection), Recorder()
    operator.ended.add_done_callback(lambda ended: ended.exception())
    operator.client.write_hooks.append(recorder)
    requests = []
    operator.client.count = lambda verb, status: requests.append(time.monotonic())
    before, began = megabytes(), time.monotonic()
    edge = Edge(operator)
    await edge.start()
    try:
        while len(watching.arrived) < large + small:
            assert time.monotonic() - began < seconds, f"{len(watching.arrived)} got there"
            assert not operator.ended.done()
            await asyncio.sleep(0.2)
        took = time.monotonic() - began
        # The Lease and the watches are asked for beside the limit, less than once a second.
        assert len(requests) <= (MOST_PER_SECOND + 1) * took + 2 * MOST_PER_SECOND + 10
        assert megabytes() - before <= 50 + MEGABYTES_EACH * (large + small)
        print(
            f"{large + small} in {took:.0f} s: {len(requests)} requests, {len(recorder.writes)} "
            f"writes, {megabytes() - before:.0f} MiB more, {watching.most_probes} probes at once"
        )
        return watching
    finally:
        await edge.drop()
        await watching.go()
        await connection.close()


def fair(arrived):
    """Whether the small namespace is done while half of the large one still waits."""
    last = max(place for place, namespace in enumerate(arrived) if namespace == "small")
    behind = arrived[last:].count("large")
    return behind >= arrived.count("large") / 2


@pytest.mark.survives(
    "Operator",
    "60 updates created at once, four fifths of them in one namespace",
    "all are imported; the small namespace is done while half of the large one waits; "
    "requests, memory and concurrent probes stay within their limits",
)
async def test_many_updates_at_once_finish_in_fair_order(empty):
    watching = await crowd(empty, 48, 12, seconds=240)
    assert fair(watching.arrived)
    assert watching.most_probes <= MOST_PROBES


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.survives(
    "Operator",
    "500 updates created at once, 400 of them in one namespace",
    "all finish; the 100 are done while half of the 400 wait; requests, memory and concurrent "
    "probes stay within their limits",
)
async def test_500_updates_at_once_finish_in_fair_order(empty):
    watching = await crowd(empty, 400, 100, seconds=1500)
    assert fair(watching.arrived)
    assert watching.most_probes <= MOST_PROBES
