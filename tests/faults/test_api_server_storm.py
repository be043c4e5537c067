"""Another client patches annotations, labels and finalizers of the update fifty times a second."""

import asyncio
import time

import pytest
from faults.life import LIFE, play
from faults.test_crashes import lasting, live
from faults.test_people_delete import Tried
from patience import within

from springtide_operator.cluster.api.kinds import UPDATE
from springtide_operator.cluster.writing.status_writer import TRIES

pytestmark = pytest.mark.apiserver

PER_SECOND = 50
WRITERS = 6
AT_LEAST = 10
"""On a busy machine fewer patches count."""
CALM_SECONDS = 5
PAUSE_SECONDS = 0.95


class OtherClient:
    """Writes without reading; every second patch adds or takes a finalizer of its own."""

    def __init__(self, scene):
        self.scene, self.patches = scene, 0

    async def patch_for(self, seconds):
        """Patch for so many seconds, longer where they were too few patches; return how long."""
        began = time.monotonic()
        writers = (self._patch_until(began + seconds, AT_LEAST * seconds) for _ in range(WRITERS))
        await asyncio.gather(*writers)
        await self.patch(present=True)
        return time.monotonic() - began

    async def _patch_until(self, end, patches):
        while (began := time.monotonic()) < end or self.patches < patches:
            await self.patch(present=self.patches % 2 == 0)
            await asyncio.sleep(max(0.0, began + WRITERS / PER_SECOND - time.monotonic()))

    async def patch(self, *, present):
        self.patches += 1
        metadata = {"namespace": self.scene.namespace, "name": "shop"}
        metadata["annotations"] = {"example.com/storm": str(self.patches)}
        metadata["labels"] = {"example.com/storm": str(self.patches % 7)}
        metadata["finalizers"] = ["example.com/storm"] if present else []
        await self.scene.client.apply(UPDATE, {"metadata": metadata}, manager="storm", force=True)


def rounds(tried):
    """Lengths of the rounds of failing tries to write the update's status.

    A round ends by a try that is answered well, or by a pause.
    """
    lengths, last = [], 0.0
    for at, answered in tried.statuses:
        if at - last >= PAUSE_SECONDS or not lengths:
            lengths.append(0)
        lengths[-1] += 1
        last = at
        if answered:
            lengths.append(0)
    return lengths


class Tries(Tried):
    """Remembers of each try to write the update's status whether it was answered well."""

    def __init__(self):
        super().__init__()
        self.statuses = []

    async def before_write(self, number, verb, path):
        await super().before_write(number, verb, path)
        if "/shop/status" in path:
            self.statuses.append([time.monotonic(), False])

    async def after_write(self, number, verb, path):
        await super().after_write(number, verb, path)
        if "/shop/status" in path:
            self.statuses[-1][1] = True


def refused(operator, code):
    labels = {"verb": "PATCH", "code": str(code)}
    registry = operator.metrics.registry
    return registry.get_sample_value("springtide_api_requests_total", labels) or 0


@pytest.mark.survives(
    "API server",
    "answers 409 and 422 to many writes: another client patches the update 10 to 50 times a second",
    "the status is correct within 5 s after the last patch; no field of the other client is "
    "lost; a status write is repeated at most five times in a row, then after a second; at "
    "most one more status write a second than without the patches",
)
@pytest.mark.parametrize(
    ("seconds", "acts"), [(12, LIFE[:2]), pytest.param(60, LIFE[:3], marks=pytest.mark.faults)]
)
async def test_a_storm_of_patches_by_another_client_neither_stops_us_nor_adds_writes(
    ground, seconds, acts
):
    usual, tried = Tries(), Tries()
    wanted = await live(ground, usual, acts=acts)
    scene = await ground.scene()
    await scene.declare()
    operator = await scene.start(tried)
    other = OtherClient(scene)
    living = asyncio.create_task(play(scene, acts, seconds=10 * seconds))
    lasted = await other.patch_for(seconds)
    answered = [sum(well for _, well in each.statuses) for each in (tried, usual)]
    assert max(rounds(tried)) <= TRIES
    assert answered[0] <= answered[1] + lasted
    assert refused(operator, 409) + refused(operator, 422) > 0
    async with within(CALM_SECONDS):
        await living

    raw = await scene.client.get(UPDATE, scene.namespace, "shop")
    assert raw["metadata"]["annotations"]["example.com/storm"] == str(other.patches)
    assert raw["metadata"]["labels"]["example.com/storm"] == str(other.patches % 7)
    assert raw["metadata"]["finalizers"] == ["example.com/storm"]
    body = {"metadata": {"namespace": scene.namespace, "name": "shop"}}
    await scene.client.apply(UPDATE, body, manager="storm", force=True)
    assert await lasting(scene, wanted) == []
