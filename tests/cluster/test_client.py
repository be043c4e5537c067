"""What the client says to a real API server, and what it makes of the answers."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import NAMESPACE, Kind

pytestmark = pytest.mark.apiserver

CONFIG = Kind("", "v1", "configmaps", "ConfigMap")


def config(namespace, name, **data):
    return {"metadata": {"namespace": namespace, "name": name}, "data": data}


async def test_a_created_object_is_read_and_a_second_of_its_name_refused(client, namespace):
    made = await client.create(CONFIG, config(namespace, "a", x="1"))
    assert (await client.get(CONFIG, namespace, "a"))["metadata"]["uid"] == made["metadata"]["uid"]
    with pytest.raises(errors.AlreadyExists):
        await client.create(CONFIG, config(namespace, "a"))


async def test_a_list_comes_in_pages_at_one_version(client, namespace, monkeypatch):
    monkeypatch.setattr("springtide_operator.cluster.api.client.PAGE", 2)
    for number in range(5):
        await client.create(CONFIG, config(namespace, f"n{number}"))
    listed = await client.list_all(CONFIG, namespace)
    assert [item["metadata"]["name"] for item in listed.items] == [f"n{n}" for n in range(5)]
    assert all(item["kind"] == "ConfigMap" for item in listed.items)
    assert listed.version > 0


async def test_apply_owns_exactly_what_it_holds_and_refuses_what_others_own(client, namespace):
    await client.apply(CONFIG, config(namespace, "a", x="1", y="1"), manager="us")
    await client.apply(CONFIG, config(namespace, "a", z="1"), manager="them")
    applied = await client.apply(CONFIG, config(namespace, "a", x="2"), manager="us")
    assert applied["data"] == {"x": "2", "z": "1"}
    with pytest.raises(errors.Conflict, match="them"):
        await client.apply(CONFIG, config(namespace, "a", z="2"), manager="us")


async def test_an_apply_with_a_uid_does_not_create_an_object_again(client, namespace):
    made = await client.create(CONFIG, config(namespace, "a"))
    uid = made["metadata"]["uid"]
    await client.delete(CONFIG, namespace, "a", uid=uid)
    body = config(namespace, "a", x="1")
    body["metadata"]["uid"] = uid
    with pytest.raises(errors.Conflict):
        await client.apply(CONFIG, body, manager="us")


async def test_only_the_very_object_that_was_seen_is_deleted(client, namespace):
    made = await client.create(CONFIG, config(namespace, "a"))
    with pytest.raises(errors.Conflict):
        await client.delete(CONFIG, namespace, "a", uid="0b2a4b0c-0000-0000-0000-000000000000")
    seen = int(made["metadata"]["resourceVersion"])
    await client.apply(CONFIG, config(namespace, "a", x="1"), manager="us")
    uid = made["metadata"]["uid"]
    with pytest.raises(errors.Conflict):
        await client.delete(CONFIG, namespace, "a", uid=uid, version=seen)
    await client.delete(CONFIG, namespace, "a", uid=uid)
    with pytest.raises(errors.NotFound):
        await client.get(CONFIG, namespace, "a")


async def test_a_json_patch_whose_test_fails_changes_nothing(client, namespace):
    await client.create(CONFIG, config(namespace, "a", x="1"))
    operations = [
        {"op": "test", "path": "/data/x", "value": "0"},
        {"op": "replace", "path": "/data/x", "value": "2"},
    ]
    with pytest.raises(errors.PatchOutdated):
        await client.patch(CONFIG, namespace, "a", operations, manager="us")
    operations[0]["value"] = "1"
    patched = await client.patch(CONFIG, namespace, "a", operations, manager="us")
    assert patched["data"] == {"x": "2"}


async def test_malformed_and_misplaced_objects_are_told_apart(client, namespace):
    with pytest.raises(errors.Invalid, match="Invalid"):
        await client.create(CONFIG, config(namespace, "UPPER"))
    with pytest.raises(errors.NotFound):
        await client.create(CONFIG, config("no-such-namespace", "a"))


async def test_the_clock_knows_the_server_within_a_second_and_ignores_ours(client):
    with pytest.raises(RuntimeError):
        client.clock.now()
    await client.get(NAMESPACE, "", "default")
    assert abs(client.clock.now() - datetime.now(UTC)) <= timedelta(seconds=2)


async def test_observers_count_writes_and_may_end_them(client, namespace):
    reported = []

    class Crash:
        async def before_write(self, number, verb, path):
            reported.append(("before", number, verb))
            if number == 2:
                raise ConnectionAbortedError("the process ends here")

        async def after_write(self, number, verb, path):
            reported.append(("after", number, verb))

    client.write_hooks.append(Crash())
    await client.create(CONFIG, config(namespace, "a"))
    with pytest.raises(ConnectionAbortedError):
        await client.create(CONFIG, config(namespace, "b"))
    await client.get(CONFIG, namespace, "a")
    assert reported == [("before", 1, "POST"), ("after", 1, "POST"), ("before", 2, "POST")]
    with pytest.raises(errors.NotFound):
        await client.get(CONFIG, namespace, "b")


async def test_nothing_is_written_while_the_guard_refuses(client, namespace):
    def guard(path):
        assert f"/namespaces/{namespace}/" in path
        raise errors.NotLeading("Lease is not fresh")

    client.guard = guard
    with pytest.raises(errors.NotLeading):
        await client.create(CONFIG, config(namespace, "a"))
    client.guard = None
    with pytest.raises(errors.NotFound):
        await client.get(CONFIG, namespace, "a")


async def test_a_server_that_is_not_there_is_unavailable(client, namespace, apiserver):
    apiserver.stop()
    try:
        with pytest.raises(errors.Unavailable):
            await client.get(CONFIG, namespace, "a")
    finally:
        apiserver.start()
    began = time.monotonic()
    while True:
        try:
            assert (await client.list_all(CONFIG, namespace)).version
            break
        except errors.Unavailable:
            assert time.monotonic() - began < 60
