"""A kind stays true although its events come from elsewhere, in any order and with gaps."""

import asyncio

import pytest

from springtide_operator.cluster.api.kinds import Kind
from springtide_operator.cluster.watching import auditor as auditing
from springtide_operator.cluster.watching.auditor import Auditor
from springtide_operator.cluster.watching.cache import Store

pytestmark = pytest.mark.apiserver

CONFIG = Kind("", "v1", "configmaps", "ConfigMap")


@pytest.fixture
def reported():
    return []


@pytest.fixture
async def audited(client, namespace, reported):
    """An auditor that has finished its first list of an empty namespace."""
    store = Store(owner=lambda raw: "", trim=lambda raw: None)

    def changed(kind, raw):
        reported.append(raw["metadata"]["name"])

    made = Auditor(client, CONFIG, store, changed, namespace=namespace, backoff=1.0)
    task = asyncio.create_task(made.run())
    await until(lambda: store.listed)
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition, seconds=30.0):
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def created(client, namespace, name):
    body = {"metadata": {"namespace": namespace, "name": name}, "data": {"x": "1"}}
    return await client.create(CONFIG, body)


async def deleted(client, made):
    metadata = made["metadata"]
    await client.delete(CONFIG, metadata["namespace"], metadata["name"], uid=metadata["uid"])


def event(kind, raw):
    return {"type": kind, "object": raw}


def held(audited):
    return {raw["metadata"]["name"] for raw in audited.store.all()}


async def test_events_fill_the_store_and_report_what_changed(audited, client, namespace, reported):
    made = await created(client, namespace, "a")
    audited.handle(event("ADDED", made))
    assert held(audited) == {"a"}
    assert reported == ["a"]
    later = {**made, "metadata": {**made["metadata"], "resourceVersion": "999999999"}}
    audited.handle(event("DELETED", later))
    assert held(audited) == set()


async def test_events_in_another_order_never_advance_the_version(audited, client, namespace):
    known = audited.store.version
    first, second = [await created(client, namespace, name) for name in ("a", "b")]
    audited.handle(event("ADDED", second))
    assert audited.store.version == known
    audited.store.insert(first)  # an own write, whose event has not come yet
    assert held(audited) == {"a", "b"}


async def test_an_own_write_whose_deletion_was_reported_is_no_ghost(audited, client, namespace):
    made = await created(client, namespace, "a")
    gone = {**made, "metadata": {**made["metadata"], "resourceVersion": "999999999"}}
    audited.handle(event("DELETED", gone))
    audited.store.insert(made)
    assert held(audited) == set()


@pytest.mark.survives(
    "API server",
    "kopf lists again after a gap and reports none of the deletions in between",
    "deleted objects are dropped about 2 s after the list",
)
async def test_what_went_during_a_gap_is_dropped_after_a_list_of_kopf(
    audited, client, namespace, reported
):
    gone, stays = [await created(client, namespace, name) for name in ("gone", "stays")]
    for raw in (gone, stays):
        audited.handle(event("ADDED", raw))
    await deleted(client, gone)
    reported.clear()
    audited.handle(event(None, stays))
    await until(lambda: held(audited) == {"stays"})
    assert reported == ["gone"]


async def test_a_list_of_kopf_that_comes_late_does_not_bring_back_what_an_audit_dropped(
    audited, client, namespace, monkeypatch
):
    monkeypatch.setattr(auditing, "RELIST_SECONDS", 0.1)
    gone, stays = [await created(client, namespace, name) for name in ("gone", "stays")]
    for raw in (gone, stays):
        audited.handle(event("ADDED", raw))
    await deleted(client, gone)
    audited.handle(event(None, stays))
    await until(lambda: held(audited) == {"stays"})
    audited.handle(event(None, gone))
    assert held(audited) == {"stays"}


async def test_many_events_of_a_list_ask_for_one_audit(audited, client, namespace, monkeypatch):
    monkeypatch.setattr(auditing, "RELIST_SECONDS", 0.3)
    lists = []
    list_all = client.list_all

    async def counted(*arguments, **options):
        lists.append(arguments)
        return await list_all(*arguments, **options)

    monkeypatch.setattr(client, "list_all", counted)
    made = await created(client, namespace, "a")
    for _ in range(50):
        audited.handle(event(None, made))
        await asyncio.sleep(0.01)
    assert lists == []
    await until(lambda: lists)
    await asyncio.sleep(1)
    assert len(lists) == 1


async def test_without_any_event_an_audit_runs_at_regular_times(
    client, namespace, monkeypatch, reported
):
    monkeypatch.setattr(auditing, "AUDIT_SECONDS", 0.2)
    store = Store(owner=lambda raw: "", trim=lambda raw: None)
    made = Auditor(client, CONFIG, store, lambda kind, raw: None, namespace=namespace)
    task = asyncio.create_task(made.run())
    await until(lambda: store.listed)
    await created(client, namespace, "unheard")
    await until(lambda: held(made) == {"unheard"})
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_list_that_fails_is_reported_and_repeated(client, namespace, apiserver):
    store = Store(owner=lambda raw: "", trim=lambda raw: None)
    made = Auditor(client, CONFIG, store, lambda kind, raw: None, namespace=namespace, backoff=1.0)
    apiserver.stop()
    try:
        task = asyncio.create_task(made.run())
        await until(lambda: made.watch_health.last_error)
        assert not store.listed
    finally:
        apiserver.start()
    await until(lambda: store.listed)
    assert made.watch_health.last_error == ""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
