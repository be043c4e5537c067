"""The real process, ended by SIGKILL at any of its writes, or by SIGTERM during many.

Its requests pass the fault proxy, which ends it just before it forwards a write, or after the API
server answered the write and before the operator gets the answer.
"""

import asyncio

import pytest
from faults.process import Process
from faults.proxy import Cut, Proxy
from faults.rules import delay
from faults.test_crashes import Course, failures, lasting, undisturbed
from patience import within

from springtide_operator.cluster.api.kinds import GENERATION, JOB, LEASE

pytestmark = pytest.mark.apiserver

PROCESSES_AT_ONCE = 4
"""Each costs about two seconds of a core to start."""
FORKS_AT_ONCE = 10
SAMPLE = 67
"""Every so many of the moments are tried in each run; `make test-faults` tries all."""
EXIT_SECONDS = 10
MANY = 50


class Death:
    """Kills a process at its n-th write; `process` must be set before it writes."""

    def __init__(self, number, *, before):
        self.number, self.before = number, before
        self.happened = asyncio.Event()
        self.where = f"{'before' if before else 'after'} write {number}"
        self.process = None

    async def __call__(self, call, pass_on):
        due = call.number and not self.happened.is_set()
        if due and self.before and call.number == self.number:
            self._strike(call)
        answer = await pass_on()
        # The n-th may have been refused: then the next one that is answered well.
        if due and not self.before and call.number >= self.number and answer.status < 300:
            self._strike(call)
        return answer

    def _strike(self, call):
        if not self.happened.is_set():
            self.process.kill()
            self.where += f": {call.verb} {call.path}"
            self.happened.set()
        raise Cut


async def died(ground, wanted, death, course, folder, forked):
    """Live with one death of the process; return what differs at the end."""
    scene = await ground.scene()
    folder = folder / scene.namespace
    folder.mkdir()
    async with Proxy(ground.kubeconfig, folder) as proxy:
        death.process = process = Process(scene, folder / "log", proxy.kubeconfig, forked=forked)
        proxy.rules.append(death)
        await scene.declare()
        living = asyncio.create_task(course.play(scene, seconds=240))
        ended = asyncio.create_task(death.happened.wait())
        try:
            await process.start()
            await asyncio.wait({living, ended}, return_when=asyncio.FIRST_COMPLETED)
            if death.happened.is_set():
                await process.killed()
                await process.start()
                await process.answering()
                course.restart()
            await living
            return await lasting(scene, wanted)
        except AssertionError as error:
            return [str(error)]
        finally:
            ended.cancel()
            await process.close()
            await scene.close()


async def die_at(ground, every, folder, *, forked=False):
    """Kill at every so many of all moments; return what differed, by the moment."""
    writes, wanted = await undisturbed(ground)
    moments = [(number, before) for number in range(1, writes + 1) for before in (True, False)]
    deaths = [Death(number, before=before) for number, before in moments[::every]]
    courses = [Course() for _ in deaths]
    places = asyncio.Semaphore(FORKS_AT_ONCE if forked else PROCESSES_AT_ONCE)

    async def one(death, course):
        async with places:
            return await died(ground, wanted, death, course, folder, forked)

    outcomes = await asyncio.gather(*map(one, deaths, courses))
    return failures(deaths, courses, outcomes, writes)


@pytest.mark.survives(
    "Operator",
    "the process is killed just before or just after some of its writes",
    "the next operator ends with the same objects: one Job for each attempt, no further "
    "Deployment revision; within 15 s more than an undisturbed operator needs, counted from its "
    "first answer, it finishes the step",
)
async def test_the_next_process_continues_after_a_kill_at_some_writes(ground, tmp_path):
    assert await die_at(ground, SAMPLE, tmp_path) == {}


@pytest.mark.survives(
    "Operator",
    "the process is killed just before and just after each write of a lifecycle",
    "the next operator ends with the same objects: one Job for each attempt, no further "
    "Deployment revision; within 15 s more than an undisturbed operator needs, counted from its "
    "first answer, it finishes the step",
)
@pytest.mark.faults
@pytest.mark.timeout(7200)
async def test_the_next_process_continues_after_a_kill_at_every_write(ground, tmp_path):
    assert await die_at(ground, 1, tmp_path, forked=True) == {}


@pytest.mark.survives(
    "Operator",
    "SIGTERM while it works on 50 updates and the API server takes seconds for each write",
    "exit status 0 within 10 s, the Lease is released, the next process finishes all updates",
)
async def test_a_process_that_gets_sigterm_with_fifty_updates_in_progress_ends_in_order(
    ground, proxy, tmp_path
):
    scene = await ground.scene()
    names = [f"shop-{number:02d}" for number in range(MANY)]
    await asyncio.gather(*(scene.declare(name, f"ranker-{name}") for name in names))
    process = Process(scene, tmp_path / "log", proxy.kubeconfig)
    try:
        await process.start()
        await scene.until(lambda scene: len(scene.started) > 5)
        with proxy.ruled(delay(8)):
            await scene.until(lambda _: proxy.at_once > 4)
            async with within(EXIT_SECONDS):
                assert await process.terminate() == 0
        lease = await scene.client.get(LEASE, scene.namespace, "springtide-operator")
        assert lease["spec"]["holderIdentity"] == ""

        await process.start()
        await scene.until(lambda scene: all_imported(scene, names), seconds=240)
        jobs = [raw["metadata"]["name"] for raw in scene.started.values()]
        assert len(jobs) == len(set(jobs)) == MANY
        assert await process.terminate() == 0
    finally:
        await process.close()


def all_imported(scene, names):
    held = {
        raw["metadata"]["name"]: raw.get("status") or {}
        for raw in scene.ground.cache.stores[GENERATION].all()
        if raw["metadata"]["namespace"] == scene.namespace
    }
    done = all((held.get(f"{name}-g0") or {}).get("artifact") for name in names)
    return done and not any(
        raw["metadata"]["namespace"] == scene.namespace
        for raw in scene.ground.cache.stores[JOB].all()
    )
