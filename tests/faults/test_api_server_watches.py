"""Watches end with errors, or lose what happened; the operator knows it all the same."""

import asyncio
import time
from collections import Counter

import pytest
from faults.life import play
from faults.rules import end_watch, error_event, rewrite
from faults.test_crashes import lasting, undisturbed

from springtide_operator.cluster.kinds import GENERATION, JOB, UPDATE

pytestmark = pytest.mark.apiserver

ERRORS = 12


@pytest.mark.survives(
    "API server",
    "ends every watch with an ERROR 500, twelve times in a row and more",
    "the work goes on to the same end, the process is not ended",
)
async def test_work_goes_on_while_every_watch_ends_with_an_error_again_and_again(ground, proxy):
    life = asyncio.create_task(undisturbed(ground))
    scene = await ground.scene()
    await scene.declare()
    ended = Counter()

    def failing(call):
        if call.watch:
            ended[call.kind] += 1
        return call.watch

    proxy.rules.append(rewrite(end_watch(0.5, error_event(500)), of=failing))
    operator = await scene.start(through=proxy.connection)
    await play(scene, seconds=120)
    await scene.until(lambda scene: min(ended.values()) >= ERRORS)
    assert not operator.ended.done()
    assert operator.health().problems() == []
    _, wanted = await life
    assert await lasting(scene, wanted) == []


class Gap:
    """Passes the lines of watches on until it is opened; then they are lost, up to a 410."""

    def __init__(self):
        self.opened, self.over = asyncio.Event(), asyncio.Event()

    async def __call__(self, lines):
        async for line in lines:
            if self.opened.is_set():
                break
            yield line
        await self.over.wait()
        yield error_event(410)


def held(operator, kind):
    return {
        (raw["metadata"]["name"], raw["metadata"]["resourceVersion"])
        for raw in operator.cache.stores[kind].all()
    }


async def listed(scene, kind):
    items = (await scene.client.list_all(kind, scene.namespace)).items
    return {(raw["metadata"]["name"], raw["metadata"]["resourceVersion"]) for raw in items}


async def as_listed(scene, operator):
    return all(
        [held(operator, kind) == await listed(scene, kind) for kind in (UPDATE, GENERATION, JOB)]
    )


@pytest.mark.survives(
    "API server",
    "answers 410 to every watch after updates were created, edited, deleted and made anew unseen",
    "holds what a fresh list says within 5 s; nothing is written for what was deleted",
)
async def test_what_happened_in_a_gap_is_known_after_it_and_the_dead_are_left_alone(ground, proxy):
    scene = await ground.scene(prompt=False)
    names = ("gone", "again", "edited", "left")
    for name in names:
        await scene.declare(name, f"ranker-{name}")
    gap = Gap()
    open_watches = rewrite(gap, of=lambda call: call.watch and not gap.over.is_set())
    proxy.rules.append(open_watches)
    operator = await scene.start(through=proxy.connection)
    await scene.until(lambda scene: len(scene.jobs()) == len(names))

    gap.opened.set()
    dead = []
    for name in ("gone", "again"):
        raw = await scene.client.get(UPDATE, scene.namespace, name)
        dead.append(raw["metadata"]["uid"])
        await scene.client.delete(UPDATE, scene.namespace, name, uid=dead[-1])
    await scene.declare_update("again", "ranker-again")
    await scene.declare("new", "ranker-new")
    await scene.edit("edited", suspend=True)
    before = len(proxy.writes)
    gap.over.set()
    began = time.monotonic()
    while not await as_listed(scene, operator):
        assert time.monotonic() < began + 5
        await asyncio.sleep(0.1)

    await scene.until(lambda scene: all(phase(scene, name) for name in ("again", "new")))
    await scene.until(lambda scene: phase(scene, "edited") == "Suspended")
    written = proxy.writes[before:]
    assert written
    assert [call for call in written if any(uid in call.url + call.body for uid in dead)] == []


def phase(scene, name):
    raw = scene.ground.cache.get(UPDATE, scene.namespace, name)
    return (raw.get("status") or {}).get("phase")
