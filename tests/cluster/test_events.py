"""Events are said once, on one line, whoever says them again."""

import pytest

from springtide_operator.cluster.api.kinds import EVENT, Kind
from springtide_operator.cluster.writing.events import LONGEST, REMEMBERED_SECONDS, Events, one_line

pytestmark = pytest.mark.apiserver

CONFIG = Kind("", "v1", "configmaps", "ConfigMap")


async def test_a_replay_makes_no_second_event(client, namespace):
    about = await client.create(CONFIG, {"metadata": {"namespace": namespace, "name": "a"}})
    for events in (Events(client, "springtide"), Events(client, "springtide")):
        for _ in range(2):
            await events.post(CONFIG, about, "Rejected", "g1: auc 0.5 < 0.6", type_="Warning")
    await events.post(CONFIG, about, "Rejected", "g2: auc 0.4 < 0.6", type_="Warning")
    uid = about["metadata"]["uid"]
    listed = await client.list_all(EVENT, namespace, fields=f"involvedObject.uid={uid}")
    assert sorted(event["message"] for event in listed.items) == [
        "g1: auc 0.5 < 0.6",
        "g2: auc 0.4 < 0.6",
    ]


@pytest.mark.survives(
    "API server",
    "an Event expired, and its reason occurs again",
    "posted again; not while the Event still exists",
)
async def test_an_event_that_expired_is_posted_again_when_it_happens_again(client, namespace):
    about = await client.create(CONFIG, {"metadata": {"namespace": namespace, "name": "a"}})
    now = 0.0
    events = Events(client, "springtide", monotonic=lambda: now)

    async def said():
        await events.post(CONFIG, about, "Failed", "no space is left", type_="Warning")
        return (await client.list_all(EVENT, namespace)).items

    (first,) = await said()
    now += REMEMBERED_SECONDS + 1
    assert [each["metadata"]["uid"] for each in await said()] == [first["metadata"]["uid"]]
    metadata = first["metadata"]  # the API server deletes it after an hour
    await client.delete(EVENT, namespace, metadata["name"], uid=metadata["uid"])
    now += REMEMBERED_SECONDS + 1
    (again,) = await said()
    assert again["metadata"]["uid"] != metadata["uid"]


async def test_a_message_of_any_bytes_is_posted(client, namespace):
    about = await client.create(CONFIG, {"metadata": {"namespace": namespace, "name": "a"}})
    message = "a\nb\x1b[31m\x00 {} %s " + "ü" * 2000
    await Events(client, "springtide").post(CONFIG, about, "Failed", message, type_="Warning")
    (event,) = (await client.list_all(EVENT, namespace)).items
    assert event["message"].startswith(r"a\nb\x1b[31m\x00 {} %s ü")
    assert len(event["message"].encode()) <= LONGEST


def test_a_message_that_fits_is_kept_as_it_is():
    assert one_line("auc 0.41 < 0.42 (Größe)") == "auc 0.41 < 0.42 (Größe)"
