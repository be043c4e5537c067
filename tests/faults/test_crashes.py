"""An operator that dies before or after any of its writes leaves a world that the next one ends.

The whole life is lived once undisturbed. Then the operator is ended at one write, all its memory
dropped, and a new one goes on: the world at the end must be the same, Job by Job.
"""

import asyncio
import time

import pytest
from faults.life import LIFE, differences, play, world_of
from faults.playing import Crash, Recorder

pytestmark = pytest.mark.apiserver

SIDE_BY_SIDE = 24
SAMPLE = 17
"""Every so many of the crashes are tried in each run of the tests; `make test-faults` tries all."""
SETTLING_SECONDS = 15
"""The status of what only the progress says may be so old."""


_lived = []


async def undisturbed(ground):
    """Live once in all tests; return the number of writes and the world at the end."""
    if not _lived:
        recorder = Recorder()
        world = await live(ground, recorder)
        _lived.append((len(recorder.writes), world))
    return _lived[0]


async def live(ground, *observers, acts=LIFE):
    """Live once; return the world at the end."""
    scene = await ground.scene()
    await scene.declare()
    await scene.start(*observers)
    await play(scene, acts)
    world = await world_of(scene)
    await scene.close()
    return world


async def disturbed(ground, wanted, crash):
    """Live with one crash; return what differs at the end."""
    scene = await ground.scene()
    await scene.declare()
    living = asyncio.create_task(play(scene))
    ended = asyncio.create_task(crash.happened.wait())
    try:
        await scene.start(crash)
        await asyncio.wait({living, ended}, return_when=asyncio.FIRST_COMPLETED)
        await scene.drop()
        await scene.start()
        await living
        return await lasting(scene, wanted)
    except AssertionError as error:
        return [str(error)]
    finally:
        ended.cancel()
        await scene.close()


async def lasting(scene, wanted):
    """Name the differences that do not go by themselves."""
    deadline = time.monotonic() + SETTLING_SECONDS
    while found := differences(wanted, await world_of(scene)):
        if time.monotonic() > deadline:
            break
        await asyncio.sleep(0.5)
    return found


async def crash_at(ground, every):
    """Try every so many of all crashes; return what differed, by the place of the crash."""
    writes, wanted = await undisturbed(ground)
    crashes = [
        Crash(number, before=before) for number in range(1, writes + 1) for before in (True, False)
    ][::every]
    places = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(crash):
        async with places:
            return await disturbed(ground, wanted, crash)

    outcomes = await asyncio.gather(*map(one, crashes))
    happened = [crash for crash in crashes if crash.happened.is_set()]
    assert len(happened) > 0.9 * len(crashes), "a life with a crash has other writes"
    return {crash.where: found for crash, found in zip(crashes, outcomes, strict=True) if found}


@pytest.mark.survives(
    "Operator",
    "ends before or after one of its writes; some writes of a whole life tried",
    "the next one goes on to the same end: one Job for each attempt, no further revision",
)
@pytest.mark.timeout(900)
async def test_a_crash_at_some_writes_changes_nothing(ground):
    assert await crash_at(ground, SAMPLE) == {}


@pytest.mark.survives(
    "Operator",
    "ends before or after one of its writes; every write of a whole life tried",
    "the next one goes on to the same end: one Job for each attempt, no further revision",
)
@pytest.mark.faults
@pytest.mark.timeout(3600)
async def test_a_crash_before_and_after_every_write_changes_nothing(ground):
    assert await crash_at(ground, 1) == {}


@pytest.mark.survives(
    "Operator",
    "ends after every single write, a hundred times and more in one life",
    "each next one takes a step; the end is the same",
)
async def test_operators_that_live_for_one_write_each_get_as_far_as_one_that_lives_on(ground):
    (_, wanted), scene = await asyncio.gather(undisturbed(ground), ground.scene())
    await scene.declare()
    living = asyncio.create_task(play(scene, seconds=120))
    deaths = 0
    while not living.done():
        crash = Crash(1, before=False)
        await scene.start(crash)
        ended = asyncio.create_task(crash.happened.wait())
        await asyncio.wait({living, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        await scene.drop()
        deaths += crash.happened.is_set()
    await living
    await scene.start()
    assert await lasting(scene, wanted) == []
    assert deaths > 80
