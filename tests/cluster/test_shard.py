"""What a shard serves while labels change: nothing is written before and after its time."""

import asyncio
import contextlib
import gc

import pytest

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.client import Listed
from springtide_operator.cluster.api.kinds import GENERATION, HTTP_ROUTE, NAMESPACE, UPDATE
from springtide_operator.cluster.watching.shard import Shard
from springtide_operator.cluster.watching.watches import new_cache

DRAIN = 0.1


def thing(namespace, name, version=1):
    metadata = {"namespace": namespace, "name": name, "uid": f"uid-{name}"}
    return {"metadata": metadata | {"resourceVersion": str(version)}}


def space(name, version, uid=""):
    metadata = {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata}


class Server:
    """Lists what it has, and fails where a test asks for it."""

    def __init__(self):
        self.objects = {UPDATE: [thing("shop", "ranker")]}
        self.failing = set()
        self.lists = 0

    async def list_all(self, kind, namespace, **_):
        self.lists += 1
        await asyncio.sleep(0)
        if kind in self.failing:
            raise errors.Unavailable(f"{kind.name} cannot be listed")
        if kind == HTTP_ROUTE:
            raise errors.NotFound("no such kind")
        items = self.objects.get(kind, ())
        return Listed([each for each in items if each["metadata"]["namespace"] == namespace], 9)


class Claims:
    """Claims without an API server: `taken` names what others hold."""

    def __init__(self):
        self.taken = {}
        self.held = set()
        self.released = []

    async def take(self, namespace):
        await asyncio.sleep(0)
        if holder := self.taken.get(namespace):
            return holder
        self.held.add(namespace)
        return ""

    async def holds(self, namespace):
        await asyncio.sleep(0)
        return namespace in self.held

    async def release(self, namespace):
        await asyncio.sleep(0)
        self.held.discard(namespace)
        self.released.append(namespace)


class Stage:
    """A shard that runs, and whose labels the test changes."""

    def __init__(self):
        self.server, self.claims, self.woken = Server(), Claims(), []
        self.cache = new_cache()
        self.shard = Shard(
            self.server,
            self.claims,
            "shard=a",
            self.cache,
            lambda *place: self.woken.append(place),
            drain_seconds=DRAIN,
        )
        self._version = 10

    def event(self, kind, name, uid=""):
        self._version += 1
        self.shard.reflector._apply_event({"type": kind, "object": space(name, self._version, uid)})

    def holds(self):
        """Names of the updates in the cache."""
        return [each["metadata"]["name"] for each in self.cache.stores[UPDATE].all()]

    def writes(self, namespace="shop"):
        """Whether a write in the namespace passes."""
        path = f"/apis/springtide.dev/v1alpha1/namespaces/{namespace}/incrementalupdates/x"
        try:
            self.shard.guard(path)
        except errors.NotLeading:
            return False
        return True

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)


@pytest.fixture
async def stage(monkeypatch):
    monkeypatch.setattr("springtide_operator.cluster.watching.shard.RETRY_SECONDS", 0.05)
    made = Stage()
    made.shard._namespaces.replace([], 10)
    await made.shard.begin()
    running = asyncio.create_task(made.shard.run())
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


async def test_a_namespace_is_served_once_it_is_claimed_and_listed(stage):
    stage.server.failing = {GENERATION}
    stage.event("ADDED", "shop")
    await stage.until(lambda: stage.claims.held == {"shop"} and stage.server.lists > 20)
    assert not stage.writes()
    assert stage.woken == []
    stage.server.failing = set()
    await stage.until(stage.writes)
    assert stage.holds() == ["ranker"]
    assert stage.woken == [("shop", "ranker")]


async def test_one_that_no_longer_matches_is_left_at_once_and_released_after_the_last_write(stage):
    stage.event("ADDED", "shop")
    await stage.until(stage.writes)
    stage.event("DELETED", "shop")
    assert not stage.writes()
    assert stage.holds() == []
    assert stage.woken[-1] == ("shop", "ranker")  # its series go
    assert stage.claims.held == {"shop"}
    left = asyncio.get_running_loop().time()
    await stage.until(lambda: stage.claims.released == ["shop"])
    assert asyncio.get_running_loop().time() - left >= DRAIN - 0.02
    stage.cache.stores[UPDATE].update_from_watch(thing("shop", "ranker", 99))
    assert stage.holds() == []


async def test_one_that_comes_back_before_its_claim_is_released_is_served_again(stage):
    stage.event("ADDED", "shop")
    await stage.until(stage.writes)
    stage.event("DELETED", "shop")
    stage.event("ADDED", "shop")
    await stage.until(stage.writes)
    await asyncio.sleep(2 * DRAIN)
    assert stage.writes()
    assert stage.claims.released == []


async def test_one_that_another_release_holds_is_named_and_taken_when_that_lets_go(stage):
    stage.claims.taken = {"shop": "tides/b"}
    stage.event("ADDED", "shop")
    await stage.until(lambda: stage.shard.elsewhere == {"shop": "tides/b"})
    assert not stage.writes()
    assert stage.shard.scope() == {
        "selector": "shard=a",
        "served": 0,
        "elsewhere": {"shop": "tides/b"},
        "failing": {},
    }
    stage.claims.taken = {}
    await stage.until(stage.writes)
    assert (stage.shard.served, stage.shard.elsewhere) == (1, {})


async def test_one_that_left_while_it_was_claimed_is_released(stage):
    taking = asyncio.Event()
    take = stage.claims.take

    async def slow(namespace):
        await taking.wait()
        return await take(namespace)

    stage.claims.take = slow
    stage.event("ADDED", "shop")
    await asyncio.sleep(0.05)
    stage.event("DELETED", "shop")
    taking.set()
    await stage.until(lambda: stage.claims.released == ["shop"])
    assert not stage.writes()


async def test_one_that_left_after_a_claim_without_an_answer_is_released(stage):
    async def lost(namespace):
        stage.claims.held.add(namespace)
        raise errors.Timeout("no answer")

    stage.claims.take = lost
    stage.event("ADDED", "shop")
    await stage.until(lambda: stage.claims.held == {"shop"})
    assert not stage.writes()
    stage.event("DELETED", "shop")
    await stage.until(lambda: stage.claims.released == ["shop"])


async def test_another_namespace_of_the_same_name_is_claimed_anew(stage):
    stage.event("ADDED", "shop")
    await stage.until(stage.writes)
    stage.claims.held.clear()  # the claim went with the namespace
    stage.event("MODIFIED", "shop", uid="another")
    assert not stage.writes()
    await stage.until(stage.writes)
    assert stage.claims.held == {"shop"}


async def test_one_that_was_replaced_while_it_was_claimed_is_claimed_anew(stage):
    taking, take, asked = asyncio.Event(), stage.claims.take, []

    async def slow(namespace):
        asked.append(namespace)
        await taking.wait()
        return await take(namespace)

    stage.claims.take = slow
    stage.event("ADDED", "shop")
    await stage.until(lambda: asked)
    stage.event("MODIFIED", "shop", uid="another")  # the claim that is asked for goes with the old
    taking.set()
    await stage.until(stage.writes)
    assert len(asked) == 2


async def test_one_that_left_before_it_was_claimed_is_not_claimed(stage):
    taking, asked = asyncio.Event(), []

    async def slow(namespace):
        asked.append(namespace)
        await taking.wait()
        return "tides/b"

    stage.claims.take = slow
    stage.event("ADDED", "shop")
    entering = stage.shard._enter("shop")
    stage.event("DELETED", "shop")
    await entering
    assert asked == []
    assert stage.shard._claimed == set()


async def test_a_claim_that_was_deleted_is_noticed(stage, monkeypatch):
    """A user of the namespace may delete it, and another release take it."""
    monkeypatch.setattr("springtide_operator.cluster.watching.shard.AUDIT_SECONDS", 0.05)
    auditing = asyncio.create_task(stage.shard.audit())
    stage.event("ADDED", "shop")
    await stage.until(stage.writes)
    await asyncio.sleep(0.2)
    assert stage.writes()
    stage.claims.held.clear()
    await stage.until(lambda: stage.claims.held == {"shop"} and stage.writes())
    stage.claims.held.clear()
    stage.claims.taken = {"shop": "tides/b"}
    await stage.until(lambda: stage.shard.elsewhere == {"shop": "tides/b"})
    assert not stage.writes()
    assert stage.holds() == []
    auditing.cancel()


async def test_one_that_cannot_be_claimed_is_shown_with_the_error_until_it_can(stage):
    take = stage.claims.take

    async def refused(namespace):
        raise errors.Forbidden("exceeded quota")

    stage.claims.take = refused
    stage.event("ADDED", "shop")
    await stage.until(lambda: stage.shard.scope()["failing"] == {"shop": "exceeded quota"})
    stage.claims.take = take
    await stage.until(stage.writes)
    assert stage.shard.failing == {}


async def test_what_matches_at_the_start_is_claimed_before_any_kind_is_listed():
    made = Stage()
    made.claims.taken = {"search": "tides/b"}
    made.shard._namespaces.replace([space("shop", 3), space("search", 4)], 10)
    await made.shard.begin()
    assert (made.writes("shop"), made.writes("search")) == (True, False)
    assert made.server.lists == 0
    assert made.cache.stores[UPDATE].namespaces == {"shop"}


def test_namespaces_are_selected_by_the_api_server():
    assert Stage().shard.reflector.labels == "shard=a"
    assert Stage().shard.reflector.kind == NAMESPACE


async def test_a_process_that_ends_before_a_step_has_begun_leaves_nothing_unawaited():
    stage = Stage()
    stage.shard._namespaces.replace([space("shop", 1)], 10)
    running = asyncio.create_task(stage.shard.run())
    await asyncio.sleep(0)  # the step has a task, which has not begun
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    gc.collect()  # a coroutine that was never awaited fails the test here
    assert stage.claims.held == set()
