"""Writes take seconds, and some are carried out without an answer."""

import asyncio
import json
from collections import Counter

import pytest
from faults.life import LIFE, play
from faults.playing import Recorder
from faults.rules import carry_out_late, delay, swallow_answers, within
from faults.test_crashes import lasting, live

pytestmark = pytest.mark.apiserver

TIMEOUT_SECONDS = 0.7
"""Instead of 10."""


def every_other():
    """Pick the first, the third, ... of the writes that are alike."""
    seen = Counter()

    def of(call):
        if not call.number:
            return False
        name = json.loads(call.body)["metadata"].get("name") if call.verb == "POST" else ""
        seen[call.verb, call.path, name] += 1
        return seen[call.verb, call.path, name] % 2 == 1

    return of


async def lived(ground, proxy, rule, acts, timeout):
    """Live under a rule; return the writes that it took, the end, and all Jobs that were made."""
    scene = await ground.scene()
    await scene.declare()
    operator = await scene.start(through=proxy.connection)
    operator.client.timeout = timeout
    with proxy.ruled(rule(scene)):
        await play(scene, acts, seconds=200)
    writes = [call for call in proxy.writes if within(scene)(call)]
    return scene, writes, [raw["metadata"]["name"] for raw in scene.started.values()]


def unanswered(scene):
    return swallow_answers(within(scene, every_other()))


def too_late(scene):
    return carry_out_late(1.2 * TIMEOUT_SECONDS, within(scene, every_other()))


@pytest.mark.survives(
    "API server",
    "carries out every second write, at once or too late, and gives no answer to it",
    "no Job or generation is created twice; at most twice the writes, and the same result",
)
@pytest.mark.parametrize("acts", [LIFE[:1], pytest.param(LIFE, marks=pytest.mark.faults)])
async def test_writes_that_are_done_without_an_answer_are_not_done_twice(ground, proxy, acts):
    usual = Recorder()
    lives = (lived(ground, proxy, rule, acts, TIMEOUT_SECONDS) for rule in (unanswered, too_late))
    wanted, *outcomes = await asyncio.gather(live(ground, usual, acts=acts), *lives)
    for scene, writes, jobs in outcomes:
        assert any(not call.status for call in writes)
        assert len(writes) <= 2 * len(usual.writes)
        assert len(jobs) == len(set(jobs))
        assert await lasting(scene, wanted) == []


@pytest.mark.survives(
    "API server",
    "takes two seconds for every write",
    "no Job is created twice; at most a fifth more writes, and the same result",
)
@pytest.mark.parametrize("acts", [LIFE[:1], pytest.param(LIFE, marks=pytest.mark.faults)])
async def test_slow_writes_are_waited_for(ground, proxy, acts):
    usual = Recorder()
    wanted, (scene, writes, jobs) = await asyncio.gather(
        live(ground, usual, acts=acts),
        lived(ground, proxy, lambda scene: delay(2, within(scene)), acts, timeout=10),
    )
    assert len(writes) <= 1.2 * len(usual.writes)
    assert len(jobs) == len(set(jobs))
    assert await lasting(scene, wanted) == []
