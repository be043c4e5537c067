"""An operator that ends before or after any of its writes, and the next one that continues.

One lifecycle runs undisturbed. Then the operator is ended at one write, all its memory is dropped,
and a new one continues: the objects at the end must be the same, Job by Job.
"""

import asyncio
import bisect
import contextlib
import statistics
import time

import pytest
from faults.crashing import spread
from faults.life import LIFE, differences, play, world_of
from faults.playing import Crash, Recorder
from patience import within

pytestmark = pytest.mark.apiserver

SIDE_BY_SIDE = 24
SAMPLE = 53
"""Every so many of the crashes are tried; `test_kill.py` ends a process at each of them."""
SETTLING_SECONDS = 15
"""The status of what only the progress says may be so old."""
SURE = 0.95
"""Lives differ by a few status writes: only the last ones of a life may be missing in another."""
LATER_SECONDS = 15
"""After a restart an act may take so much longer than an undisturbed one does altogether."""


_lived = []


async def undisturbed(ground):
    """Live once in all tests; return the number of writes and the world at the end."""
    if not _lived:
        recorder = Recorder()
        world = await live(ground, recorder)
        _lived.append((len(recorder.writes), world))
    return _lived[0]


async def live(ground, *write_hooks, acts=LIFE):
    """Live once; return the world at the end."""
    scene = await ground.scene()
    await scene.declare()
    await scene.start(*write_hooks)
    await play(scene, acts)
    world = await world_of(scene)
    await scene.close()
    return world


class Course:
    """When each act of a life was over, and when the next operator was started."""

    def __init__(self):
        self.over = []
        """Its beginning, then the end of each act."""
        self.restarted = float("inf")

    async def play(self, scene, seconds=180.0):
        self.over.append(time.monotonic())
        for act in LIFE:
            await play(scene, [act], seconds)
            self.over.append(time.monotonic())

    def restart(self):
        self.restarted = time.monotonic()

    @property
    def hit(self):
        """The act that was under way at the restart; None where it is not over, or all were."""
        act = bisect.bisect(self.over, self.restarted) - 1
        return act if act + 1 < len(self.over) else None

    def took(self, act):
        return self.over[act + 1] - self.over[act]


def slow(course, courses):
    """Name the act that took too long after the restart, by those of the other lives."""
    act = course.hit
    others = [each for each in courses if len(each.over) > len(LIFE) and each.hit != act]
    if act is None or not others:
        return []
    usual = statistics.median(each.took(act) for each in others)
    later = course.over[act + 1] - course.restarted
    if later <= usual + LATER_SECONDS:
        return []
    return [f"act {act} was over {later:.1f} s after the restart, usual are {usual:.1f} s"]


async def disturbed(ground, wanted, crash, course):
    """Live with one crash; return what differs at the end."""
    scene = await ground.scene()
    await scene.declare()
    living = asyncio.create_task(course.play(scene))
    ended = asyncio.create_task(crash.happened.wait())
    try:
        await scene.start(crash)
        await asyncio.wait({living, ended}, return_when=asyncio.FIRST_COMPLETED)
        await scene.drop()
        course.restart()
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
    found = ["its world could not be read"]
    with contextlib.suppress(TimeoutError):
        async with within(SETTLING_SECONDS):
            while found := differences(wanted, await world_of(scene)):
                await asyncio.sleep(0.5)
    return found


async def crash_at(ground, every):
    """Try every so many of all crashes; return what differed, by the place of the crash."""
    writes, wanted = await undisturbed(ground)
    every_one = [
        Crash(number, before=before) for number in range(1, writes + 1) for before in (True, False)
    ]
    crashes = spread(every_one, every)
    courses = [Course() for _ in crashes]
    places = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(crash, course):
        async with places:
            return await disturbed(ground, wanted, crash, course)

    outcomes = await asyncio.gather(*map(one, crashes, courses))
    return failures(crashes, courses, outcomes, writes)


def failures(ends, courses, outcomes, writes):
    """Return what was wrong, by the place of the end."""
    missed = [each.number for each in ends if not each.happened.is_set()]
    assert [number for number in missed if number < SURE * writes] == []
    late = (slow(course, courses) for course in courses)
    found = zip(ends, outcomes, late, strict=True)
    return {end.where: wrong + after for end, wrong, after in found if wrong or after}


async def test_the_worlds_that_are_compared_contain_buffers_and_adapters_handed_on(ground):
    _, world = await undisturbed(ground)
    specs, statuses = (
        [world["generations"][f"shop-g{number}"][part] for number in range(5)]
        for part in ("spec", "status")
    )
    buffers = [status["artifact"].get("buffer") for status in statuses]
    adapters = [status["artifact"].get("adapter") for status in statuses]

    assert [spec["data"].get("buffer") for spec in specs[1:]] == [None, *buffers[1:3], buffers[2]]
    assert len({buffer["digest"] for buffer in buffers[1:]}) == 4
    assert [spec["continuation"].get("adapter") for spec in specs[1:]] == [
        None,
        adapters[1],
        None,
        None,
    ]
    assert [adapter and adapter["generations"] for adapter in adapters] == [None, 1, 2, None, None]
    methods = [spec["recipe"]["training"]["method"]["type"] for spec in specs[1:]]
    assert methods == ["LoRA", "LoRA", "Full", "Full"]
    assert [status["training"]["replay"]["rows"] for status in statuses[1:]] == [20] * 4


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes; tested at some writes of a lifecycle",
    "the next operator ends with the same objects: one Job for each attempt, no further "
    "Deployment revision; it finishes the step within 15 s more than an undisturbed operator",
)
@pytest.mark.timeout(900)
async def test_a_crash_at_some_writes_changes_nothing(ground):
    assert await crash_at(ground, SAMPLE) == {}


@pytest.mark.survives(
    "Operator",
    "is ended after each single write, more than a hundred times in one lifecycle",
    "each next operator makes progress; the result is the same",
)
async def test_operators_that_end_after_each_write_reach_the_same_result(ground):
    (_, wanted), scene = await asyncio.gather(undisturbed(ground), ground.scene())
    await scene.declare()
    living = asyncio.create_task(play(scene, seconds=240))
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
