"""One holder of the Lease at a time; handed over at once when released, after its time when not."""

import asyncio
import dataclasses

import pytest

from springtide_operator.cluster import errors
from springtide_operator.cluster.kinds import LEASE
from springtide_operator.cluster.lease import Lease, LeaseLost

pytestmark = pytest.mark.apiserver


def lease(client, namespace, identity, seconds=4.0):
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
    await asyncio.wait_for(waiting, 10)
    second.guard()
    with pytest.raises(errors.NotLeading):
        first.guard()


@pytest.mark.survives(
    "Operator",
    "no longer renews its Lease",
    "the next one takes over after its time; the old one ends",
)
async def test_one_that_stopped_renewing_is_followed_after_its_time(client, namespace):
    first, second = lease(client, namespace, "one"), lease(client, namespace, "two")
    await first.acquire()
    await asyncio.wait_for(second.acquire(), 20)
    assert not first.fresh
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(first.keep(), 10)
    second.guard()


async def test_a_holder_that_renews_keeps_it(client, namespace):
    first, second = lease(client, namespace, "one"), lease(client, namespace, "two")
    await first.acquire()
    keeping = asyncio.create_task(first.keep())
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(7)
    assert first.fresh
    assert not waiting.done()
    for task in (keeping, waiting):
        task.cancel()
    await asyncio.gather(keeping, waiting, return_exceptions=True)


@pytest.mark.survives(
    "Operator",
    "its container crashes and is started again in the same pod",
    "it takes its Lease over at once",
)
async def test_the_same_pod_takes_over_at_once_after_a_crash(client, namespace):
    first, again = lease(client, namespace, "pod"), lease(client, namespace, "pod")
    await first.acquire()
    await asyncio.wait_for(again.acquire(), 2)
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(first.keep(), 10)
    assert (await client.get(LEASE, namespace, "operator"))["spec"]["holderIdentity"].startswith(
        "pod_"
    )
