"""The cache stays true through gaps, expired versions, silence and restarts of the server."""

import asyncio
import dataclasses
import json
import urllib.request

import pytest
import yaml
from patience import within

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.connection import Connection
from springtide_operator.cluster.api.kinds import Kind
from springtide_operator.cluster.watching.cache import Store
from springtide_operator.cluster.watching.reflector import Reflector

pytestmark = pytest.mark.apiserver

CONFIG = Kind("", "v1", "configmaps", "ConfigMap")


def config(namespace, name, **data):
    return {"metadata": {"namespace": namespace, "name": name}, "data": data}


def reflector(client, namespace, reported):
    store = Store(owner=lambda raw: "", trim=lambda raw: None)
    return Reflector(
        client,
        CONFIG,
        store,
        lambda kind, raw: reported.append(raw["metadata"]["name"]),
        namespace=namespace,
        backoff=1.0,
    )


async def until(condition, seconds=30.0):
    async with within(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def ended(task):
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def held(reflected):
    return {raw["metadata"]["name"]: raw["data"] for raw in reflected.store.all()}


async def test_changes_are_followed(client, namespace):
    reported = []
    reflected = reflector(client, namespace, reported)
    await client.create(CONFIG, config(namespace, "a", x="1"))
    task = asyncio.create_task(reflected.run())
    await until(lambda: held(reflected) == {"a": {"x": "1"}})
    await client.create(CONFIG, config(namespace, "b", x="1"))
    made = await client.apply(CONFIG, config(namespace, "a", x="2"), manager="us", force=True)
    await client.delete(CONFIG, namespace, "a", uid=made["metadata"]["uid"])
    await until(lambda: held(reflected) == {"b": {"x": "1"}})
    assert set(reported) == {"a", "b"}
    await ended(task)


@pytest.mark.survives(
    "API server",
    "no longer has the changes since a watch ended (410 after a compaction)",
    "a new list shows what was created, changed and deleted",
)
async def test_what_went_while_nobody_looked_is_noticed_after_410(client, namespace, apiserver):
    reported = []
    reflected = reflector(client, namespace, reported)
    gone = await client.create(CONFIG, config(namespace, "gone", x="1"))
    await client.create(CONFIG, config(namespace, "stays", x="1"))
    task = asyncio.create_task(reflected.run())
    await until(lambda: len(held(reflected)) == 2)
    await ended(task)
    reported.clear()
    await client.delete(CONFIG, namespace, "gone", uid=gone["metadata"]["uid"])
    await client.create(CONFIG, config(namespace, "new", x="1"))
    apiserver.stop()  # or its watch cache would still know
    try:
        compact(apiserver, newest_version(apiserver))
    finally:
        apiserver.start()
    with pytest.raises(errors.Gone):
        async for _ in client.watch(
            CONFIG, namespace, labels="", version=reflected.store.version, seconds=5
        ):
            pass
    task = asyncio.create_task(reflected.run())
    await until(lambda: set(held(reflected)) == {"stays", "new"})
    assert set(reported) == {"gone", "new"}
    await ended(task)


@pytest.mark.survives(
    "API server",
    "is restarted while a watch is open",
    "later changes are seen, and no error remains",
)
async def test_a_restart_of_the_server_loses_nothing(client, namespace, apiserver):
    reported = []
    reflected = reflector(client, namespace, reported)
    task = asyncio.create_task(reflected.run())
    await until(lambda: reflected.store.listed)
    apiserver.restart()
    async with within(60):
        while True:
            try:
                await client.create(CONFIG, config(namespace, "after", x="1"))
                break
            except errors.Unavailable:
                await asyncio.sleep(0.1)
    await until(lambda: set(held(reflected)) == {"after"})
    assert reflected.watch_health.last_error == ""
    await ended(task)


class BlackHole:
    """Forwards to the API server; `swallow` makes all open connections fall silent for ever."""

    def __init__(self, apiserver):
        self._port = int(apiserver.url.rpartition(":")[2])
        self._swallowing = set()
        self._open = set()

    async def start(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self._server.sockets[0].getsockname()[1]

    def swallow(self):
        self._swallowing |= self._open

    async def stop(self):
        self._server.close()
        for writer in self._open:
            writer.close()
        await self._server.wait_closed()

    async def _accept(self, reader, writer):
        there, here = await asyncio.open_connection("127.0.0.1", self._port)
        self._open |= {writer, here}
        await asyncio.gather(self._pipe(reader, here, writer), self._pipe(there, writer, writer))

    async def _pipe(self, source, sink, connection):
        try:
            while data := await source.read(65536):
                if connection not in self._swallowing:
                    sink.write(data)
                    await sink.drain()
        except OSError:
            pass
        if connection not in self._swallowing:
            sink.close()


@pytest.mark.survives(
    "API server",
    "one connection delivers nothing more and is never closed",
    "the changes in between are known after the next list",
)
async def test_a_watch_that_falls_silent_is_followed_by_a_list(
    client, namespace, apiserver, tmp_path, monkeypatch
):
    monkeypatch.setattr("springtide_operator.cluster.watching.reflector.WATCH_SECONDS", (2, 2))
    hole = BlackHole(apiserver)
    kubeconfig = yaml.safe_load(apiserver.kubeconfig.read_text())
    port = await hole.start()
    kubeconfig["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    connection = await Connection.open(tmp_path / "kubeconfig")
    reported = []
    through = dataclasses.replace(client, connection=connection, timeout=1.0)
    reflected = reflector(through, namespace, reported)
    task = asyncio.create_task(reflected.run())
    await until(lambda: reflected.store.listed)
    hole.swallow()
    await client.create(CONFIG, config(namespace, "unheard", x="1"))
    await until(lambda: reported == ["unheard"])
    await ended(task)
    await connection.close()
    await hole.stop()


def newest_version(apiserver):
    return int(etcd(apiserver, "/v3/kv/range", '{"key":"AA=="}')["header"]["revision"])


def compact(apiserver, revision):
    etcd(apiserver, "/v3/kv/compaction", f'{{"revision":"{revision}","physical":true}}')


def etcd(apiserver, path, body):
    url = f"http://127.0.0.1:{apiserver.plane.etcd_port}{path}"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, data=body.encode(), timeout=10) as answer:
        return json.load(answer)
