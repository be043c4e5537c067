"""A stranger patches the update fifty times a second: its annotations, labels and finalizers."""

import asyncio
import time

import pytest
from faults.life import LIFE, play
from faults.playing import Recorder
from faults.test_crashes import lasting, live

from springtide_operator.cluster.kinds import UPDATE

pytestmark = pytest.mark.apiserver

PER_SECOND = 50
CALM_SECONDS = 5


class Stranger:
    """Writes without reading; every second patch adds or takes a finalizer of its own."""

    def __init__(self, scene):
        self.scene, self.patches = scene, 0

    async def blow(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.monotonic()
            await self.patch(present=self.patches % 2 == 0)
            await asyncio.sleep(max(0.0, began + 1 / PER_SECOND - time.monotonic()))
        await self.patch(present=True)

    async def patch(self, *, present):
        self.patches += 1
        metadata = {"namespace": self.scene.namespace, "name": "shop"}
        metadata["annotations"] = {"example.com/storm": str(self.patches)}
        metadata["labels"] = {"example.com/storm": str(self.patches % 7)}
        metadata["finalizers"] = ["example.com/storm"] if present else []
        await self.scene.client.apply(UPDATE, {"metadata": metadata}, manager="storm", force=True)


def status_writes(recorder):
    return [path for _, path in recorder.writes if path.endswith("/shop/status")]


def refused(operator, code):
    labels = {"verb": "PATCH", "code": str(code)}
    registry = operator.metrics.registry
    return registry.get_sample_value("springtide_api_requests_total", labels) or 0


@pytest.mark.survives(
    "API server",
    "answers 409 and 422 to many writes: a stranger patches the update 50 times a second",
    "right within 5 s of the end; no field of the stranger is lost; one own write a second",
)
@pytest.mark.parametrize("seconds", [12, pytest.param(60, marks=pytest.mark.faults)])
async def test_a_storm_of_foreign_patches_neither_stops_nor_provokes_us(ground, seconds):
    acts = LIFE[:3]
    usual, recorder = Recorder(), Recorder()
    life = asyncio.create_task(live(ground, usual, acts=acts))
    scene = await ground.scene()
    await scene.declare()
    operator = await scene.start(recorder)
    stranger = Stranger(scene)
    living = asyncio.create_task(play(scene, acts, seconds=seconds + CALM_SECONDS))
    await stranger.blow(seconds)
    assert len(status_writes(recorder)) <= len(status_writes(usual)) + seconds
    assert refused(operator, 409) + refused(operator, 422) > 0
    await asyncio.wait_for(living, CALM_SECONDS)

    raw = await scene.client.get(UPDATE, scene.namespace, "shop")
    assert raw["metadata"]["annotations"]["example.com/storm"] == str(stranger.patches)
    assert raw["metadata"]["labels"]["example.com/storm"] == str(stranger.patches % 7)
    assert raw["metadata"]["finalizers"] == ["example.com/storm"]
    body = {"metadata": {"namespace": scene.namespace, "name": "shop"}}
    await scene.client.apply(UPDATE, body, manager="storm", force=True)
    assert await lasting(scene, await life) == []
