"""One holder of the Lease at a time; handed over at once when released, after its time when not."""

import asyncio
import dataclasses
import time
from datetime import timedelta

import pytest
from patience import within

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import LEASE, NAMESPACE
from springtide_operator.cluster.api.lease import Lease, LeaseLost

pytestmark = pytest.mark.apiserver


def lease(client, namespace, identity, seconds=8.0):
    quick = dataclasses.replace(client, timeout=1.0)
    return Lease(quick, namespace, "operator", identity, seconds=seconds)


async def test_the_second_waits_until_the_first_lets_go(client, namespace):
    first, second = lease(client, namespace, "one"), lease(client, namespace, "two")
    await first.acquire()
    first.guard()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(1)
    assert not waiting.done()
    with pytest.raises(errors.NotLeading):
        second.guard()
    await first.release()
    async with within(10):
        await waiting
    second.guard()
    with pytest.raises(errors.NotLeading):
        first.guard()


@pytest.mark.survives(
    "Operator",
    "no longer renews its Lease",
    "the next operator takes over after the Lease's duration; the old process ends",
)
async def test_one_that_stopped_renewing_is_followed_after_its_time(client, namespace):
    first, second = lease(client, namespace, "one"), lease(client, namespace, "two")
    await first.acquire()
    async with within(30):
        await second.acquire()
    assert not first.fresh
    with pytest.raises(LeaseLost):
        async with within(20):
            await first.keep()
    second.guard()


async def renewed(client, namespace, *, ago):
    """Write a Lease of another holder, renewed so many seconds ago, by the server's time."""
    moment = client.clock.now() - timedelta(seconds=ago)
    spec = {
        "holderIdentity": "gone_1",
        "leaseDurationSeconds": 12,
        "renewTime": moment.strftime("%Y-%m-%dT%H:%M:%S.000000Z"),
    }
    metadata = {"namespace": namespace, "name": "operator"}
    await client.create(LEASE, {"metadata": metadata, "spec": spec})


@pytest.mark.survives(
    "Operator",
    "restarted repeatedly, each time before the Lease of the dead process before it has expired",
    "becomes leader once two renewals were missed and the Lease has expired by the API "
    "server's time",
)
async def test_time_that_passed_before_it_was_started_counts(client, namespace):
    await client.get(NAMESPACE, "", namespace)  # an answer tells the server's time
    await renewed(client, namespace, ago=15)
    second = lease(client, namespace, "two", seconds=12.0)
    begun = time.monotonic()
    async with within(20):
        await second.acquire()
    assert time.monotonic() - begun >= 4, "it must have observed two missed renewals"


async def test_a_renewal_that_is_young_by_the_server_s_time_is_waited_for(client, namespace):
    await client.get(NAMESPACE, "", namespace)
    await renewed(client, namespace, ago=1)
    second = lease(client, namespace, "two", seconds=12.0)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(second.acquire(), 6)


async def test_a_holder_that_renews_keeps_it(client, namespace):
    first, second = lease(client, namespace, "one"), lease(client, namespace, "two")
    await first.acquire()
    keeping = asyncio.create_task(first.keep())
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(12)
    assert first.fresh
    assert not waiting.done()
    for task in (keeping, waiting):
        task.cancel()
    await asyncio.gather(keeping, waiting, return_exceptions=True)


@pytest.mark.survives(
    "Operator",
    "its container crashes and is restarted in the same pod",
    "it takes its Lease over at once",
)
async def test_the_same_pod_takes_over_at_once_after_a_crash(client, namespace):
    first, again = lease(client, namespace, "pod"), lease(client, namespace, "pod")
    await first.acquire()
    async with within(2):
        await again.acquire()
    with pytest.raises(LeaseLost):
        async with within(20):
            await first.keep()
    assert (await client.get(LEASE, namespace, "operator"))["spec"]["holderIdentity"].startswith(
        "pod_"
    )
