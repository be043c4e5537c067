"""An operator ends at one write of something that goes on, and the next one continues it."""

import asyncio
import math

from faults.copying import Snapshot
from faults.playing import Crash, Recorder

HAPPENED = 0.8
"""Lives differ by a few writes: at least this share of the crashes must have happened."""


async def crash_at_writes(numbers, disturbed, *, every, side_by_side):
    """Try every so many of the crashes before and after these writes.

    Args:
        numbers: of the writes, counted from 1.
        disturbed: lives with one crash; returns what is wrong at the end.
        every: one of so many is tried; 1: one for each state of the API server.
        side_by_side: so many lives go on at a time.

    Returns:
        What was wrong, by the place of the crash.
    """
    crashes = [Crash(number, before=moment) for number in numbers for moment in (True, False)]
    places = asyncio.Semaphore(side_by_side)

    async def one(crash):
        async with places:
            wrong = await disturbed(crash)
            if crash.scene:
                await crash.scene.close()
            return wrong

    tried = chosen(crashes, every)
    found = await asyncio.gather(*map(one, tried))
    assert len([crash for crash in tried if crash.where]) >= HAPPENED * len(tried)
    return {crash.where: wrong for crash, wrong in zip(tried, found, strict=True) if wrong}


def chosen(crashes, every):
    """Choose one of so many of the crashes before and after each write, given in their order.

    1: one for each state of the API server. Before a write it is as after the write before, so
    both moments of every second write are enough. `test_kill.py` tries all moments of a lifecycle.
    """
    if every > 1:
        return spread(crashes, every)
    moments = len((True, False))
    tried = [crash for place, crash in enumerate(crashes) if place // moments % 2 == 0]
    return tried if tried[-1] is crashes[-1] else [*tried, crashes[-1]]


def spread(crashes, every):
    """Choose one of so many, none of them at an end: the last write of a life may not come."""
    count = math.ceil(len(crashes) / every)
    return [crashes[int((place + 0.5) * len(crashes) / count)] for place in range(count)]


async def crash_at_writes_of(
    begin, going_on, problems, *, every, side_by_side, attend=lambda scene: None
):
    """Try every so many of the crashes at the writes of what goes on in a scene.

    Args:
        begin: makes the first scene, called with a hook for the writes of its operator; all others
            are copies of it.
        going_on: what is to come about in a scene.
        problems: what is wrong with a scene at the end.
        every: one of so many is tried.
        side_by_side: so many lives go on at a time.
        attend: starts further controllers in a copy of the first scene.

    Returns:
        What was wrong, by the place of the crash.
    """
    recorder = Recorder()
    scene = await begin(recorder)
    snapshot = await Snapshot.of(scene)
    before = len(recorder.writes)
    await going_on(scene)
    assert problems(scene) == []

    async def disturbed(crash):
        scene = await snapshot.restore()
        attend(scene)
        await crash_during(scene, crash, going_on(scene))
        return problems(scene)

    numbers = range(1, len(recorder.writes) - before + 1)
    return await crash_at_writes(numbers, disturbed, every=every, side_by_side=side_by_side)


async def crash_during(scene, crash, going_on, *hooks, **start):
    """Play what goes on; once the operator has ended at its write, start the next.

    Args:
        scene: where it goes on; an operator of it is replaced by one that is to end.
        crash: where that one ends.
        going_on: what is to come about, as a coroutine.
        hooks: called for the writes that both operators send.
        start: settings of both operators.
    """
    crash.scene = scene
    await scene.drop()
    await scene.start(crash, *hooks, **start)
    living = asyncio.create_task(going_on)
    ended = asyncio.create_task(crash.happened.wait())
    await asyncio.wait({living, ended}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    await scene.drop()
    await scene.start(*hooks, **start)
    await living
