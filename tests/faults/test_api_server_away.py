"""The API server is down for seconds and for a minute while work is in progress."""

import asyncio
import time

import pytest
from faults.life import LIFE, play
from faults.process import Process
from faults.test_crashes import lasting, undisturbed
from faults.test_kill import all_imported

pytestmark = pytest.mark.apiserver

MANY = 30
IN_FLIGHT = 26
"""Of the operator's three clients together."""
LIMITS = {"client_qps": 50, "client_burst": 100}
BURST = 150
"""Requests in the first second after the return, the Lease and the watches among them."""
BACK_SECONDS = 90


@pytest.mark.survives(
    "API server",
    "is down for 5 s while 30 updates are in progress",
    "no update is lost, all finish within 90 s, and requests do not spike when it is back",
)
async def test_an_outage_of_seconds_loses_no_update(ground, proxy):
    scene = await ground.scene()
    names = [f"shop-{number:02d}" for number in range(MANY)]
    await asyncio.gather(*(scene.declare(name, f"ranker-{name}") for name in names))
    operator = await scene.start(through=proxy.connection, **LIMITS)
    await scene.until(lambda scene: len(scene.started) > 3)
    await proxy.refuse()
    await asyncio.sleep(5)
    await all_return(scene, proxy, names)
    assert not operator.ended.done()


async def all_return(scene, proxy, names):
    """Let the server be there again, and wait until all are where they should be."""
    before, proxy.most_at_once = len(proxy.calls), 0
    await proxy.accept()
    returned = time.monotonic()
    await scene.until(lambda scene: all_imported(scene, names), seconds=BACK_SECONDS)
    at_once = [call for call in proxy.calls[before:] if call.at < returned + 1]
    assert proxy.most_at_once <= IN_FLIGHT
    assert len(at_once) <= BURST
    jobs = [raw["metadata"]["name"] for raw in scene.started.values()]
    assert len(jobs) == len(set(jobs)) == len(names)


@pytest.mark.survives(
    "API server",
    "is down for 60 s while 30 updates are in progress",
    "no update is lost, all finish within 90 s, and requests do not spike when it is back; the "
    "process restarts at most once",
)
@pytest.mark.faults
async def test_an_outage_of_a_minute_loses_no_update(ground, proxy, tmp_path):
    scene = await ground.scene()
    names = [f"shop-{number:02d}" for number in range(MANY)]
    await asyncio.gather(*(scene.declare(name, f"ranker-{name}") for name in names))
    process = Process(scene, tmp_path / "log", proxy.kubeconfig, **LIMITS)
    await process.start()
    keeping = asyncio.create_task(process.keep())
    try:
        await scene.until(lambda scene: len(scene.started) > 3)
        await proxy.refuse()
        await asyncio.sleep(60)
        await all_return(scene, proxy, names)
        assert process.restarts <= 1
    finally:
        keeping.cancel()
        await process.close()


@pytest.mark.survives(
    "API server",
    "is down for 60 s during a run",
    "the process restarts at most once, and the run has caught up within 90 s after the return",
)
@pytest.mark.faults
async def test_an_outage_of_a_minute_costs_at_most_one_restart(ground, proxy, tmp_path):
    life = asyncio.create_task(undisturbed(ground))
    scene = await ground.scene()
    await scene.declare()
    process = Process(scene, tmp_path / "log", proxy.kubeconfig)
    await process.start()
    keeping = asyncio.create_task(process.keep())
    try:
        await play(scene, LIFE[:2])
        await proxy.refuse()
        living = asyncio.create_task(play(scene, LIFE[2:3], seconds=60 + BACK_SECONDS))
        await asyncio.sleep(60)
        await proxy.accept()
        await living
        assert process.restarts <= 1
        await play(scene, LIFE[3:])
        _, wanted = await life
        assert await lasting(scene, wanted) == []
    finally:
        keeping.cancel()
        await process.close()


@pytest.mark.survives(
    "API server",
    "is restarted during a run",
    "the run ends with the same result",
)
async def test_a_restart_of_the_server_during_a_run_changes_nothing(ground, kinds):
    _, wanted = await undisturbed(ground)
    scene = await ground.scene()
    await scene.declare()
    operator = await scene.start()
    await play(scene, LIFE[:2])
    living = asyncio.create_task(play(scene, LIFE[2:], seconds=240))
    await scene.until(lambda scene: len(scene.started) > 5)
    await asyncio.to_thread(kinds.kill)
    await asyncio.to_thread(kinds.start)
    await living
    assert await lasting(scene, wanted) == []
    assert not operator.ended.done()
