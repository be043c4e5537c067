"""A copy of a life at rest is that life: its operator finds nothing to do, and goes on with it."""

import asyncio
import json

import pytest
from faults.copying import Snapshot, objects_of, replaced
from faults.directing import directed
from faults.life import LIFE, differences, play, world_of
from faults.playing import Recorder
from faults.test_at_rest import SETTLING_SECONDS
from faults.test_rollback_requests import undone

pytestmark = pytest.mark.apiserver

REST_SECONDS = 5
NOT_COPIED = {"events", "revisions"}
"""Of a world: a new Deployment has had fewer changes."""


@pytest.mark.parametrize("acts", [2, 3])
async def test_a_copy_equals_its_origin_and_ends_as_it_does(ground, acts):
    scene = await directed(ground)
    await scene.declare()
    await scene.start()
    await play(scene, LIFE[:acts])
    await asyncio.sleep(SETTLING_SECONDS)
    copied = await copied_at_rest(scene)
    await asyncio.gather(*(play(each, LIFE[acts:]) for each in (scene, copied)))
    await asyncio.sleep(SETTLING_SECONDS)
    assert differences(*[compared(await world_of(each)) for each in (scene, copied)]) == []


async def test_a_copy_has_the_fields_that_kubectl_took_from_the_operator(ground, kinds):
    scene = await undone(ground, kinds)
    await asyncio.sleep(SETTLING_SECONDS)
    await copied_at_rest(scene)


async def copied_at_rest(scene):
    """Copy a scene; its operator finds nothing to write, and all is as it was."""
    snapshot, recorder = await Snapshot.of(scene), Recorder()
    copied = await snapshot.restore()
    await copied.start(recorder, resync_seconds=1)
    await asyncio.sleep(REST_SECONDS)
    assert recorder.sent == []
    assert differences(*[compared(await world_of(each)) for each in (scene, copied)]) == []
    assert await owners(copied) == await owners(scene)
    return copied


def compared(world):
    return {name: part for name, part in world.items() if name not in NOT_COPIED}


async def owners(scene):
    """Who owns which fields of each object, as JSON with names instead of uids."""
    objects = await objects_of(scene)
    names = {raw["metadata"]["uid"]: raw["metadata"]["name"] for _, raw in objects}
    return {
        (kind.name, raw["metadata"]["name"]): sorted(
            replaced(json.dumps({**each, "time": ""}, sort_keys=True), names)
            for each in raw["metadata"]["managedFields"]
        )
        for kind, raw in objects
    }
