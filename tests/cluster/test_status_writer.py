"""Statuses are written whole, only where they differ, and never over what was not seen."""

import asyncio

import pytest
from lifecycle.world import SPEC

from springtide_api.update.status import Counters, UpdateStatus
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import UPDATE
from springtide_operator.cluster.watching.watches import new_cache
from springtide_operator.cluster.writing.status_writer import StatusWriter

pytestmark = pytest.mark.apiserver


@pytest.fixture
async def held(client, kinds, namespace):
    """An update in the cache."""
    made = await client.create(
        UPDATE,
        {
            "apiVersion": UPDATE.api_version,
            "kind": UPDATE.name,
            "metadata": {"namespace": namespace, "name": "shop"},
            "spec": SPEC,
        },
    )
    cache = new_cache()
    cache.insert(UPDATE, made)
    return cache


def status(runs):
    return UpdateStatus(counters=Counters(runs=runs)).plain()


async def test_a_status_that_does_not_differ_is_not_written(client, namespace, held):
    kinds_written = []
    statuses = StatusWriter(client, held, kinds_written.append)
    for _ in range(3):
        await statuses.write(UPDATE, (namespace, "shop"), status(1), UpdateStatus)
    assert kinds_written == ["IncrementalUpdate"]


async def test_what_is_left_out_is_taken_away(client, namespace, held):
    statuses = StatusWriter(client, held)
    place = (namespace, "shop")
    through = {"freshness": {"servedDataThrough": "2026-03-01T00:00:00Z"}}
    await statuses.write(UPDATE, place, status(1) | through, UpdateStatus)
    await statuses.write(UPDATE, place, status(1) | {"freshness": {}}, UpdateStatus)
    live = await client.get(UPDATE, *place)
    assert live["status"].get("freshness", {}) == {}


@pytest.mark.survives(
    "API server",
    "another client changes annotations as fast as it can",
    "statuses are written all the same, and the annotations stay",
)
async def test_a_foreign_writer_of_metadata_neither_stops_a_write_nor_loses_his(
    client, namespace, held
):
    statuses = StatusWriter(client, held)
    place = (namespace, "shop")

    async def storm():
        for number in range(100):
            metadata = {"namespace": namespace, "name": "shop"}
            metadata["annotations"] = {"storm": str(number)}
            await client.apply(UPDATE, {"metadata": metadata}, manager="storm", force=True)

    blowing = asyncio.create_task(storm())
    written = 0
    while not blowing.done():
        try:
            await statuses.write(UPDATE, place, status(written + 1), UpdateStatus)
            written += 1
        except errors.Conflict:
            continue
    await blowing
    live = await client.get(UPDATE, *place)
    assert written >= 1
    assert live["status"]["counters"]["runs"] == written
    assert live["metadata"]["annotations"]["storm"] == "99"


@pytest.mark.survives(
    "Operator",
    "writes a status from an outdated cache",
    "refused: a newer status is never overwritten",
)
async def test_an_older_view_never_turns_a_status_back(client, namespace, held):
    place = (namespace, "shop")
    older = new_cache()
    older.insert(UPDATE, dict(held.get(UPDATE, *place)))
    await StatusWriter(client, held).write(UPDATE, place, status(2), UpdateStatus)
    with pytest.raises(errors.Conflict):
        await StatusWriter(client, older).write(UPDATE, place, status(1), UpdateStatus)
    assert (await client.get(UPDATE, *place))["status"]["counters"]["runs"] == 2
