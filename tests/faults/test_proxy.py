"""The fault proxy: without rules it changes nothing, and its faults are those of a server."""

import asyncio
import time

import pytest
from faults.rules import Nth, cut, error_event, refuse, rewrite

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.client import Client
from springtide_operator.cluster.api.clock import ServerClock
from springtide_operator.cluster.api.kinds import Kind
from springtide_operator.cluster.api.limits import Limits

pytestmark = pytest.mark.apiserver

CONFIG = Kind("", "v1", "configmaps", "ConfigMap")


@pytest.fixture
async def through(proxy):
    limits = Limits(monotonic=time.monotonic)
    return Client(proxy.connection, ServerClock(time.monotonic), limits)


def config(scene, name):
    return {"metadata": {"namespace": scene.namespace, "name": name}}


async def test_lists_watches_and_writes_pass_and_writes_are_counted(ground, proxy, through):
    scene = await ground.scene()
    at = (await through.list_all(CONFIG, scene.namespace)).version
    seen = []

    async def follow():
        async for event in through.watch(CONFIG, scene.namespace, labels="", version=at, seconds=2):
            seen.append((event["type"], event["object"]["metadata"].get("name")))

    following = asyncio.create_task(follow())
    made = await through.create(CONFIG, config(scene, "a-b"))
    await through.apply(CONFIG, config(scene, "b"), manager="me & you", force=True)
    await through.delete(CONFIG, scene.namespace, "a-b", uid=made["metadata"]["uid"])
    await following
    names = [each for each in seen if each[1] in ("a-b", "b")]
    assert names == [("ADDED", "a-b"), ("ADDED", "b"), ("DELETED", "a-b")]
    assert [call.number for call in proxy.writes] == [1, 2, 3]
    assert {call.kind for call in proxy.calls} == {"configmaps"}


async def test_the_chosen_calls_fail_as_chosen_and_the_others_pass(ground, proxy, through):
    scene = await ground.scene()
    rules = cut(of=Nth(3), done=True), refuse(429, of=Nth(2), Retry_After="7")
    with proxy.ruled(*rules):
        await through.create(CONFIG, config(scene, "one"))
        with pytest.raises(errors.TooManyRequests) as refused:
            await through.create(CONFIG, config(scene, "two"))
        assert refused.value.retry_after == 7
        with pytest.raises(errors.Unavailable):
            await through.create(CONFIG, config(scene, "three"))
    held = {
        each["metadata"]["name"] for each in (await through.list_all(CONFIG, scene.namespace)).items
    }
    assert {"one", "three"} <= held
    assert "two" not in held


async def test_a_server_that_is_down_refuses_and_breaks_what_was_open(ground, proxy, through):
    scene = await ground.scene()
    at = (await through.list_all(CONFIG, scene.namespace)).version
    events = through.watch(CONFIG, scene.namespace, labels="", version=at, seconds=30)
    following = asyncio.create_task(anext(events))
    while not any(call.status for call in proxy.calls if call.watch):
        await asyncio.sleep(0.01)
    await proxy.refuse()
    with pytest.raises(errors.Unavailable):
        await following
    with pytest.raises(errors.Unavailable):
        await through.create(CONFIG, config(scene, "a"))
    await proxy.accept()
    await through.create(CONFIG, config(scene, "a"))


async def test_an_error_can_be_put_into_a_watch(ground, proxy, through):
    scene = await ground.scene()

    async def broken(lines):
        yield error_event(410)

    with proxy.ruled(rewrite(broken)), pytest.raises(errors.Gone):
        async for _ in through.watch(CONFIG, scene.namespace, labels="", version=1, seconds=5):
            pass
