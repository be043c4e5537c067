"""What is written for an update: a cache that lags behind must not mislead it."""

import pytest
from lifecycle.declared import SPEC, in_a_bucket
from lifecycle.world import World, with_generation_one

from springtide_api.objects import parse_update
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import DEPLOYMENT, JOB, UPDATE
from springtide_operator.cluster.reading.live_reader import LiveReader
from springtide_operator.cluster.watching.watches import new_cache
from springtide_operator.cluster.writing.actuator import Actuator
from springtide_operator.cluster.writing.events import Events
from springtide_operator.cluster.writing.status_writer import StatusWriter
from springtide_operator.lifecycle.state.plan import Serve
from springtide_operator.manifests.job import job

pytestmark = pytest.mark.apiserver


@pytest.fixture
async def actuator(client):
    cache = new_cache()
    return Actuator(
        client=client,
        cache=cache,
        live_reader=LiveReader(client),
        events=Events(client, "springtide"),
        status_writer=StatusWriter(client, cache),
        progress_url="http://operator:8080",
    )


@pytest.fixture
async def update(client, kinds, namespace):
    body = {"apiVersion": UPDATE.api_version, "kind": UPDATE.name, "spec": SPEC}
    return await client.create(
        UPDATE, {**body, "metadata": {"namespace": namespace, "name": "shop"}}
    )


@pytest.fixture
def start():
    """The import's Job."""
    world = World()
    world.settle()
    return next(iter(world.runs.values()))


@pytest.fixture
async def serve(client, namespace):
    """The apply of the first generation, for a Deployment that is there."""
    container = {"name": "server", "image": "server"}
    labels = {"app": "ranker"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    metadata = {"namespace": namespace, "name": "ranker"}
    made = await client.create(DEPLOYMENT, {"metadata": metadata, "spec": spec})
    applied = []
    world = with_generation_one()
    world.on_action = lambda seen, action: applied.append(action)
    world.target = world.target.__class__(
        target=world.target.target, uid=made["metadata"]["uid"], has_container=True, desired=2
    )
    world.settle()
    return next(each for each in applied if isinstance(each, Serve))


async def deleted(client, update):
    metadata = update["metadata"]
    await client.delete(UPDATE, metadata["namespace"], "shop", uid=metadata["uid"])


async def test_a_job_is_created_for_an_update_that_is_as_it_was_observed(actuator, update, start):
    meta = parse_update(update).metadata
    await actuator.execute(meta, start)
    made = await actuator.client.get(JOB, meta.namespace, start.run.job)
    assert made["metadata"]["ownerReferences"][0]["uid"] == meta.uid


async def test_the_api_server_takes_every_field_of_a_job_in_an_object_store(client, namespace):
    world = World(spec=in_a_bucket())
    world.settle()
    start = next(iter(world.runs.values()))
    meta = world.update.metadata.model_copy(update={"namespace": namespace})
    wanted = job(meta, start, "http://operator:8080")
    made = await client.create(JOB, wanted)
    pod = made["spec"]["template"]["spec"]
    assert pod["serviceAccountName"] == "clicks-reader"
    assert lost(wanted["spec"], made["spec"]) == []


def lost(sent, stored, path="spec"):
    """Name the fields of a manifest that the API server has not stored as they were sent."""
    if isinstance(sent, dict):
        return [each for key in sent for each in lost(sent[key], stored.get(key), f"{path}.{key}")]
    if isinstance(sent, list):
        pairs = enumerate(zip(sent, stored or [], strict=True))
        return [each for at, pair in pairs for each in lost(*pair, f"{path}[{at}]")]
    return [] if sent == stored else [path]


@pytest.mark.survives(
    "API server",
    "an update was deleted, or deleted and recreated, and its watch has not reported it yet",
    "no Job is created and no Deployment changed for it",
)
@pytest.mark.parametrize("again", [False, True])
async def test_nothing_is_written_for_an_update_that_is_gone(
    actuator, client, update, start, serve, again
):
    meta = parse_update(update).metadata
    before = await client.get(DEPLOYMENT, meta.namespace, "ranker")
    await deleted(client, update)
    if again:
        metadata = {"namespace": meta.namespace, "name": "shop"}
        await client.create(UPDATE, {**update, "metadata": metadata})
    for action in (start, serve):
        with pytest.raises(errors.Conflict):
            await actuator.execute(meta, action)
    assert (await client.list_all(JOB, meta.namespace)).items == []
    after = await client.get(DEPLOYMENT, meta.namespace, "ranker")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


async def test_an_edit_that_its_watch_has_not_reported_is_seen_before_a_job_is_created(
    actuator, client, update, start
):
    meta = parse_update(update).metadata
    place = {"namespace": meta.namespace, "name": "shop"}
    body = {"metadata": place, "spec": {"suspend": True}}
    await client.apply(UPDATE, body, manager="person", force=True)
    with pytest.raises(errors.Conflict):
        await actuator.execute(meta, start)
    assert actuator.cache.get(UPDATE, meta.namespace, "shop")["spec"]["suspend"]
    assert (await client.list_all(JOB, meta.namespace)).items == []


async def test_a_change_of_its_status_alone_does_not_hold_up_a_job(actuator, client, update, start):
    meta = parse_update(update).metadata
    place = {"namespace": meta.namespace, "name": "shop"}
    body = {"metadata": place, "status": {"phase": "Queued"}}
    how = {"manager": "springtide", "force": True, "subresource": "status"}
    await client.apply(UPDATE, body, **how)
    await actuator.execute(meta, start)
    assert len((await client.list_all(JOB, meta.namespace)).items) == 1
