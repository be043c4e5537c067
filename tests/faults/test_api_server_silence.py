"""Watches that stay silent, and watches that repeat every event ten times."""

import asyncio
import random
from collections import Counter
from datetime import timedelta

import pytest
from faults.life import LIFE, play
from faults.playing import Recorder
from faults.rules import rewrite
from faults.test_crashes import lasting, live

from springtide_operator.cluster.watching import reflector
from springtide_operator.lifecycle.jobs import attempt_outcome as attempts

pytestmark = pytest.mark.apiserver

HANDLED_SECONDS = 75
REST_SECONDS = 8
OLD = 6
"""Old events that come again every tenth of a second: kopf needs about 1 ms for each."""


class Hole:
    """Lets nothing through once it is there, and ends nothing."""

    def __init__(self):
        self.there = False

    async def __call__(self, lines):
        async for line in lines:
            if self.there:
                await asyncio.Event().wait()
            yield line


@pytest.mark.survives(
    "API server",
    "all watches become silent without an end, and so do those that follow",
    "every change is handled within 75 s; no liveness probe would fail meanwhile",
)
@pytest.mark.parametrize(
    ("watch_seconds", "timeout", "edits", "watching"),
    [
        ((2, 3), 2.0, 2, {"server_timeout": 2, "inactivity_timeout": 4}),
        pytest.param(reflector.WATCH_SECONDS, 10.0, 4, {}, marks=pytest.mark.faults),
    ],
)
async def test_changes_are_handled_although_watches_are_silent(
    ground, proxy, monkeypatch, watch_seconds, timeout, edits, watching
):
    monkeypatch.setattr(reflector, "WATCH_SECONDS", watch_seconds)
    within = HANDLED_SECONDS - (55 - watch_seconds[1]) - (10 - timeout)
    edited, trained = await ground.scene(), await ground.scene(prompt=False)
    hole = Hole()
    proxy.rules.append(rewrite(hole))
    for scene in (edited, trained):
        await scene.declare()
        operator = await scene.start(through=proxy.connection, watching=watching)
        operator.client.timeout = timeout
        if watching:
            operator.sessions.silent_seconds = 3.0
    await play(edited, LIFE[:1])
    await trained.until(lambda scene: scene.started)
    hole.there = True
    sick = asyncio.create_task(ever_sick(edited.operators[0], trained.operators[0]))
    (job,) = trained.started.values()
    await trained.end(job)
    imported = asyncio.create_task(
        trained.until(lambda scene: scene.generation(0).get("artifact"), within)
    )
    for suspend in (number % 2 == 0 for number in range(edits)):
        await edited.edit(suspend=suspend)
        wanted = "Suspended" if suspend else "Idle"
        await edited.until(
            lambda scene, wanted=wanted: scene.update_status.get("phase") == wanted, within
        )
    await imported
    assert not sick.done()
    sick.cancel()


async def ever_sick(*operators):
    """Return as soon as a liveness probe would fail."""
    while not any(operator.health().problems() for operator in operators):
        await asyncio.sleep(0.2)


@pytest.mark.survives(
    "API server",
    "the watch of pods is silent, so that only the ends of Jobs are seen",
    "the pods are read; no result is treated as missing, no attempt is made twice",
)
async def test_results_are_read_where_the_watch_of_pods_is_silent(ground, proxy, monkeypatch):
    monkeypatch.setattr(attempts, "GRACE", timedelta(0))
    scene = await ground.scene()
    await scene.declare()
    hole = Hole()
    hole.there = True
    proxy.rules.append(rewrite(hole, of=lambda call: call.watch and call.kind == "pods"))
    await scene.start(through=proxy.connection)
    await play(scene, LIFE[:2])
    made = [raw["metadata"]["name"] for raw in scene.started.values()]
    assert [name for name in made if not name.endswith("-1") and "-probe-" not in name] == []
    assert sum("-probe-" in name for name in made) == 1


class Echo:
    """Repeats every event ten times, out of order, and old events again and again, also at rest."""

    def __init__(self):
        self._random = random.Random(7)
        self._seen = {}

    def of(self, call):
        async def change(lines):
            seen = self._seen.setdefault(call.path, [])
            async for batch in batches(lines, 0.1):
                seen += batch
                old = self._random.sample(seen, min(len(seen), OLD))
                every = [*batch * 10, *old]
                self._random.shuffle(every)
                yield b"".join(every)

        return change

    async def __call__(self, call, pass_on):
        return await rewrite(self.of(call))(call, pass_on)


async def batches(lines, seconds):
    """Collect what comes within so many seconds, empty ones too."""
    queue = asyncio.Queue()

    async def pump():
        async for line in lines:
            queue.put_nowait(line)

    pumping = asyncio.create_task(pump())
    try:
        while not pumping.done():
            await asyncio.sleep(seconds)
            yield [queue.get_nowait() for _ in range(queue.qsize())]
    finally:
        pumping.cancel()
        await asyncio.gather(pumping, return_exceptions=True)


def tellings(recorder):
    """Count the writes of the update's status: some depend on the time that things take."""
    return sum(path.endswith("/shop/status") for _, path in recorder.writes)


def facts(recorder):
    """Count the other writes by kind."""
    paths = [(verb, path.partition("/namespaces/")[2]) for verb, path in recorder.writes]
    return Counter(
        (verb, path.split("/")[1], path.endswith("/status"))
        for verb, path in paths
        if not path.endswith("/shop/status")
    )


@pytest.mark.survives(
    "API server",
    "every watch event comes ten times and out of order, and old events are repeated for ever",
    "the same result; at most one more write of the update's status for each step; none at rest",
)
async def test_repeated_reordered_and_old_events_change_nothing(ground, proxy):
    usual, recorder = Recorder(), Recorder()
    life = asyncio.create_task(live(ground, usual))
    scene = await ground.scene()
    await scene.declare()
    proxy.rules.append(Echo())
    await scene.start(recorder, through=proxy.connection)
    await play(scene)
    assert await lasting(scene, await life) == []
    assert facts(recorder) == facts(usual)
    assert tellings(recorder) <= tellings(usual) + len(LIFE)
    before = len(recorder.writes)
    await asyncio.sleep(REST_SECONDS)
    assert recorder.writes[before:] == []
