"""The API server no longer admits the operator: rights are revoked, the token expires."""

import asyncio

import pytest
import yaml
from faults.life import LIFE, play
from faults.process import Process
from faults.rules import but_leases, everything, refusal, refuse
from patience import within

from springtide_operator.cluster.api.connection import Connection
from springtide_operator.cluster.watching import reflector

pytestmark = pytest.mark.apiserver

REPORTED_SECONDS = RECOVERED_SECONDS = 60


def degraded(operator):
    return operator.metrics.registry.get_sample_value("springtide_degraded") == 1


@pytest.mark.survives(
    "API server",
    "answers 403 to everything except the Lease: the operator's rights are revoked and granted "
    "again",
    "`springtide_degraded` is 1 within 60 s; it is 0 and the work continues within 60 s after "
    "the rights are back",
)
@pytest.mark.parametrize(
    ("seconds", "watch_seconds"),
    [(5, (2, 3)), pytest.param(300, reflector.WATCH_SECONDS, marks=pytest.mark.faults)],
)
async def test_revoked_rights_are_reported_and_need_no_restart(
    ground, proxy, monkeypatch, seconds, watch_seconds
):
    monkeypatch.setattr(reflector, "WATCH_SECONDS", watch_seconds)
    scene = await ground.scene()
    await scene.declare()
    operator = await scene.start(through=proxy.connection)
    await play(scene, LIFE[:1])
    patience = REPORTED_SECONDS + seconds + RECOVERED_SECONDS
    living = asyncio.create_task(play(scene, LIFE[1:2], seconds=patience))
    with proxy.ruled(refuse(403, of=but_leases)):
        await scene.until(lambda scene: degraded(operator), REPORTED_SECONDS)
        await asyncio.sleep(seconds)
        assert degraded(operator)
    await scene.until(lambda scene: not degraded(operator), RECOVERED_SECONDS)
    await living
    assert not operator.ended.done()


async def tells(process, value):
    """Wait until the metric says so."""
    while await process.metric("springtide_degraded") != value:
        await asyncio.sleep(0.5)


@pytest.mark.survives(
    "API server",
    "answers 401 to everything while the operator starts",
    "the operator waits, reports `springtide_degraded`, stays alive and starts to work once it "
    "is admitted",
)
async def test_a_process_that_is_refused_at_its_start_waits(ground, proxy, tmp_path):
    scene = await ground.scene()
    await scene.declare()
    process = Process(scene, tmp_path / "log", proxy.kubeconfig)
    try:
        with proxy.ruled(refuse(401, of=everything)):
            await process.start()
            async with within(REPORTED_SECONDS):
                await tells(process, 1.0)
            await asyncio.sleep(5)
            await tells(process, 1.0)
            assert (await process.get("HEALTH", "/healthz"))[0] == 200
        await play(scene, LIFE[:1], seconds=RECOVERED_SECONDS)
        assert await process.terminate() == 0
    finally:
        await process.close()


@pytest.mark.survives(
    "API server",
    "answers 401 to everything for 80 s, the Lease included",
    "`springtide_degraded` is 1 within 60 s, also after the restart; no manual restart is needed",
)
@pytest.mark.faults
async def test_a_process_whose_token_is_rejected_reports_it_and_recovers(ground, proxy, tmp_path):
    scene = await ground.scene()
    await scene.declare()
    process = Process(scene, tmp_path / "log", proxy.kubeconfig)
    await process.start()
    keeping = asyncio.create_task(process.keep())

    try:
        await play(scene, LIFE[:1])
        with proxy.ruled(refuse(401, of=everything)):
            async with within(REPORTED_SECONDS):
                await tells(process, 1.0)
            await asyncio.sleep(50)
            async with within(10):
                await tells(process, 1.0)
        async with within(RECOVERED_SECONDS):
            await tells(process, 0.0)
            await play(scene, LIFE[1:2], seconds=RECOVERED_SECONDS)
        assert process.restarts <= 1
    finally:
        keeping.cancel()
        await process.close()


class Doorman:
    """Lets in who shows the one good token."""

    def __init__(self, token):
        self.token = token

    async def __call__(self, call, pass_on):
        shown = call.headers.get("Authorization")
        return await pass_on() if shown == f"Bearer {self.token}" else refusal(401)


@pytest.mark.survives(
    "API server",
    "no longer accepts the old token; the new one is in the file at once, or a while later",
    "the file is read again, and work continues without a restart",
)
async def test_a_token_that_changes_in_its_file_is_read_again(ground, proxy, tmp_path):
    scene = await ground.scene()
    await scene.declare()
    token = tmp_path / "token"
    token.write_text("one")
    kubeconfig = yaml.safe_load(proxy.kubeconfig.read_text())
    kubeconfig["users"][0]["user"] = {"tokenFile": str(token)}
    (tmp_path / "with-token.yaml").write_text(yaml.safe_dump(kubeconfig))
    doorman = Doorman("one")
    connection = await Connection.open(tmp_path / "with-token.yaml")
    with proxy.ruled(doorman):
        operator = await scene.start(through=connection)
        await play(scene, LIFE[:1])
        doorman.token = "two"
        token.unlink()  # the moment between two files
        await scene.touch()
        await asyncio.sleep(6)
        token.write_text("two")
        await play(scene, LIFE[1:2])
        assert not operator.ended.done()
        await scene.close()
    await connection.close()
