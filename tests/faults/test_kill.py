"""The real process, ended by SIGKILL in the middle of its work."""

import asyncio
import os
import signal
import socket
import sys

import pytest
from faults.life import play
from faults.test_crashes import lasting, undisturbed

pytestmark = pytest.mark.apiserver


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return str(taken.getsockname()[1])


async def start(scene, log):
    ports = {f"SPRINGTIDE_{name}_PORT": free_port() for name in ("PROGRESS", "HEALTH", "METRICS")}
    environment = {
        **os.environ,
        **ports,
        "KUBECONFIG": str(scene.ground.kubeconfig),
        "SPRINGTIDE_TRAINER_IMAGE": "trainer",
        "SPRINGTIDE_PROGRESS_URL": "http://operator:8080",
        "SPRINGTIDE_NAMESPACE": scene.namespace,
        "SPRINGTIDE_LEASE_NAMESPACE": scene.namespace,
        "SPRINGTIDE_IDENTITY": "operator",
    }
    with log.open("ab") as written:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "springtide_operator", env=environment, stderr=written
        )


async def test_a_process_killed_at_a_new_job_and_in_the_middle_of_a_roll_is_made_good(
    ground, tmp_path
):
    life = asyncio.create_task(undisturbed(ground))
    scene = await ground.scene()
    await scene.declare()
    living = asyncio.create_task(play(scene, seconds=180))
    moments = (
        lambda scene: any("-g1-train-" in j["metadata"]["name"] for j in scene.started.values()),
        lambda scene: len(scene.templates) > 2,
    )
    for moment in moments:
        process = await start(scene, tmp_path / "log")
        await scene.until(moment)
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        assert not living.done()
    process = await start(scene, tmp_path / "log")
    try:
        await living
        _, wanted = await life
        assert await lasting(scene, wanted) == []
    finally:
        process.terminate()
        assert await process.wait() == 0
