"""What kopf may send, and what is learned from the answers."""

import asyncio
import time
from types import SimpleNamespace

import aiohttp
import pytest
import yaml

from springtide_operator.cluster.api.clock import ServerClock
from springtide_operator.cluster.api.connection import Connection
from springtide_operator.cluster.api.kinds import Kind
from springtide_operator.cluster.watching.auditor import Auditor
from springtide_operator.cluster.watching.cache import Store
from springtide_operator.cluster.watching.sessions import Sessions, WriteRefusedError

pytestmark = pytest.mark.apiserver

CONFIG = Kind("", "v1", "configmaps", "ConfigMap")
UNKNOWN = Kind("example.com", "v1", "things", "Thing")


@pytest.fixture
async def opened(client, namespace, apiserver):
    """A session as kopf gets it, with the auditor that listens."""
    async with listening(client, client.connection, CONFIG) as made:
        made.url = f"{client.connection.server}{CONFIG.path(namespace)}"
        yield made


class listening(SimpleNamespace):  # noqa: N801 - reads as a statement
    def __init__(self, client, connection, kind):
        store = Store(owner=lambda raw: "", trim=lambda raw: None)
        auditor = Auditor(client, kind, store, lambda kind, raw: None)
        self.counted = []
        sessions = Sessions(
            connection,
            ServerClock(time.monotonic),
            {kind.plural: auditor},
            lambda verb, status: self.counted.append((verb, status)),
        )
        super().__init__(auditor=auditor, sessions=sessions, session=sessions.open())

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.session.close()
        await asyncio.sleep(0.1)


async def test_a_read_passes_with_the_credentials_of_the_operator_and_is_counted(opened):
    opened.auditor.watch_health.failed("before")
    async with opened.session.get(opened.url) as answer:
        assert answer.status == 200
    assert opened.counted == [("GET", 200)]
    assert opened.auditor.watch_health.last_error == ""


@pytest.mark.parametrize("verb", ["POST", "PUT", "PATCH", "DELETE"])
async def test_a_write_of_kopf_is_never_sent(opened, verb):
    with pytest.raises(WriteRefusedError):
        await opened.session.request(verb, opened.url, json={})
    assert opened.counted == []


async def test_a_kind_that_is_not_served_is_tried_again_as_if_there_were_no_answer(client):
    async with listening(client, client.connection, UNKNOWN) as made:
        with pytest.raises(aiohttp.ClientConnectionError, match="not served now"):
            await made.session.get(f"{client.connection.server}{UNKNOWN.path()}")
        assert made.auditor.watch_health.last_error.endswith(": 404")


async def test_each_request_has_the_token_of_that_moment(client, namespace, apiserver, tmp_path):
    token = tmp_path / "token"
    token.write_text("invalid")
    kubeconfig = yaml.safe_load(apiserver.kubeconfig.read_text())
    kubeconfig["users"][0]["user"] = {"tokenFile": str(token)}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    connection = await Connection.open(tmp_path / "kubeconfig")
    apiserver.kubectl("create", "serviceaccount", "reader", "-n", namespace)

    async with listening(client, connection, CONFIG) as made:
        url = f"{connection.server}{CONFIG.path(namespace)}"
        async with made.session.get(url) as answer:
            assert answer.status == 401
        assert made.auditor.watch_health.last_error.endswith(": 401")
        token.write_text(apiserver.kubectl("create", "token", "reader", "-n", namespace).strip())
        await connection.reload(time.monotonic())
        async with made.session.get(url) as answer:
            assert answer.status == 403  # known now, and without any rights
    await connection.close()


async def watched(opened):
    async with opened.session.get(f"{opened.url}?watch=true&timeoutSeconds=1") as answer:
        assert answer.status == 200
        await answer.read()


async def test_a_watch_that_comes_long_after_the_one_before_asks_for_an_audit(opened):
    opened.sessions.silent_seconds = 1.5
    asked = []
    opened.auditor.request = asked.append
    await watched(opened)
    await watched(opened)
    assert asked == []
    await asyncio.sleep(1)
    await watched(opened)
    assert asked == [0.0]


async def test_watches_of_a_kind_begin_at_most_once_a_second(opened):
    began = time.monotonic()
    for _ in range(3):
        async with opened.session.get(f"{opened.url}?watch=true"):
            pass
    assert time.monotonic() - began >= 2
