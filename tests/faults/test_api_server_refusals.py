"""The API server refuses writes: once, for a while, or after it carried them out."""

import asyncio
import contextlib
import itertools
import time

import pytest
from faults.crashing import spread
from faults.life import LIFE, play
from faults.rules import Nth, everything, refuse, within
from faults.test_crashes import lasting, undisturbed

pytestmark = pytest.mark.apiserver

SIDE_BY_SIDE = 16
SAMPLE = 71
RETRIED_SECONDS = 5
CODES = (400, 403, 404, 409, 422, 500)


def status_of(name):
    return lambda call: call.path.endswith(f"/{name}/status") and bool(call.number)


@pytest.mark.survives(
    "API server",
    "answers 400, 403, 404, 409, 422 or 500 to one write of the status of an update or a "
    "generation",
    "the status is written within 5 s, without any further event",
)
async def test_a_status_write_that_is_refused_once_is_repeated_within_five_seconds(ground, proxy):
    await asyncio.gather(
        *(of_update(ground, proxy, code) for code in CODES),
        *(of_generation(ground, proxy, code) for code in CODES),
    )


async def of_update(ground, proxy, code):
    scene = await ground.scene()
    await scene.declare()
    await scene.start(through=proxy.connection)
    await play(scene, LIFE[:1])
    async with refused_once(scene, proxy, code, "shop"):
        await scene.edit(suspend=True)
        await scene.until(lambda scene: scene.update_status.get("phase") == "Suspended", seconds=30)


async def of_generation(ground, proxy, code):
    scene = await ground.scene(prompt=False)
    await scene.declare()
    await scene.start(through=proxy.connection)
    await scene.until(lambda scene: scene.started)
    async with refused_once(scene, proxy, code, "shop-g0"):
        (job,) = scene.started.values()
        await scene.end(job)
        await scene.until(lambda scene: scene.generation(0).get("artifact"), seconds=30)


@contextlib.asynccontextmanager
async def refused_once(scene, proxy, code, name):
    """Refuse the one write of the status of an object that something now leads to."""
    await asyncio.sleep(2)  # what was on its way has come
    picked = within(scene, status_of(name))
    with proxy.ruled(refuse(code, of=Nth(1, picked))):
        before = len(proxy.writes)
        yield
        tried = [call for call in proxy.writes[before:] if picked(call)]
        await scene.until(lambda scene: tried[-1].status)  # the watch may have been faster
    refused = next(index for index, call in enumerate(tried) if call.status == code)
    assert tried[refused + 1].at - tried[refused].at < RETRIED_SECONDS
    assert tried[refused + 1].status == 200


async def lived_through(ground, proxy, wanted, number, *, done):
    """Live with one write answered 5xx; return what differs at the end."""
    scene = await ground.scene()
    await scene.declare()
    one = Nth(number, within(scene))
    with proxy.ruled(refuse(504 if done else 500, of=one, done=done)):
        await scene.start(through=proxy.connection)
        try:
            await play(scene)
            return await lasting(scene, wanted)
        except AssertionError as error:
            return [str(error)]
        finally:
            await scene.close()


async def one_refusal_each(ground, proxy, every):
    """Refuse every so many of the writes of a life; return what differed, by the write."""
    count, wanted = await undisturbed(ground)
    every_one = [(n, done) for n in range(1, count + 1) for done in (False, True)]
    cases = spread(every_one, every)
    places = asyncio.Semaphore(SIDE_BY_SIDE)

    async def one(number, done):
        async with places:
            return await lived_through(ground, proxy, wanted, number, done=done)

    outcomes = await asyncio.gather(*(one(*case) for case in cases))
    refused = [call for call in proxy.writes if call.status in (500, 504)]
    assert len(refused) > 0.9 * len(cases), "a life with a refusal has other writes"
    return {case: found for case, found in zip(cases, outcomes, strict=True) if found}


@pytest.mark.survives(
    "API server",
    "answers 500 to one write, or 504 although it was done; tested at some writes of a lifecycle",
    "the same statuses, Jobs and Deployment revisions as without the fault",
)
@pytest.mark.timeout(900)
async def test_a_server_error_at_some_writes_changes_nothing(ground, proxy):
    assert await one_refusal_each(ground, proxy, SAMPLE) == {}


@pytest.mark.survives(
    "API server",
    "answers 500 to one write, or 504 although it was done; tested at every write of a lifecycle",
    "the same statuses, Jobs and Deployment revisions as without the fault",
)
@pytest.mark.faults
@pytest.mark.timeout(3600)
async def test_a_server_error_at_every_write_changes_nothing(ground, proxy):
    assert await one_refusal_each(ground, proxy, 1) == {}


async def throttled(ground, proxy, seconds, retry_after):
    """Answer 429 to all writes of a part of a lifecycle, while events arrive all the time."""
    scene = await ground.scene()
    await scene.declare()
    await scene.start(through=proxy.connection)
    await play(scene, LIFE[:2])
    living = asyncio.create_task(play(scene, LIFE[2:3], seconds=seconds + 40))
    with proxy.ruled(refuse(429, of=within(scene), Retry_After=str(retry_after))):
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            await scene.touch()
            await asyncio.sleep(0.3)
    ended = time.monotonic()
    await living
    converged = time.monotonic() - ended
    await play(scene, LIFE[3:])
    return scene, converged


def impatient(proxy, scene, retry_after):
    """Return the calls that came before the time that a refusal had asked for.

    A list of all updates or generations belongs to a watch, which no refused write concerns.
    """
    mine = [call for call in proxy.calls if within(scene, everything)(call)]
    lists = ("/incrementalupdates", "/modelgenerations")
    asked = [
        call
        for call in mine
        if not (call.watch or call.lease or (call.verb == "GET" and call.path.endswith(lists)))
    ]
    pairs = itertools.pairwise(asked)
    return [
        (refused.path, after.path, after.at - refused.at)
        for refused, after in pairs
        if refused.status == 429 and after.at - refused.at < retry_after
    ]


@pytest.mark.survives(
    "API server",
    "answers 429 with Retry-After to every write for a while, and events keep arriving",
    "the operator waits as long as each Retry-After says, and has caught up within 30 s after "
    "the last one",
)
@pytest.mark.parametrize(
    ("seconds", "retry_after"),
    [(10, 2), pytest.param(60, 3, marks=pytest.mark.faults)],
)
async def test_retry_after_is_respected(ground, proxy, seconds, retry_after):
    life = asyncio.create_task(undisturbed(ground))
    scene, converged = await throttled(ground, proxy, seconds, retry_after)
    refused = [call for call in proxy.writes if call.status == 429]
    assert len(refused) > 2
    assert impatient(proxy, scene, retry_after) == []
    assert converged <= 30
    _, wanted = await life
    assert await lasting(scene, wanted) == []
