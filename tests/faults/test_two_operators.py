"""Two operators at once: by the Lease only one writes; without it they do no harm."""

import asyncio
import time

import pytest
from faults.life import LIFE, play, world_of
from faults.playing import Recorder
from faults.test_crashes import lasting, undisturbed

pytestmark = pytest.mark.apiserver

LEASE_SECONDS = 15.0


class Deaf:
    """Holds back every renewal of a Lease, as a black hole on the way would."""

    def __init__(self):
        self.closed = False

    async def before_write(self, number, verb, path):
        if self.closed:
            await asyncio.Event().wait()

    async def after_write(self, number, verb, path):
        pass


class Timed(Recorder):
    """Remembers when the last write was answered."""

    last = 0.0

    async def after_write(self, number, verb, path):
        await super().after_write(number, verb, path)
        self.last = time.monotonic()


@pytest.mark.survives(
    "Operator",
    "loses its way to the API server while another one waits for the Lease",
    "it writes nothing once the other holds the Lease; the end is the same",
)
async def test_the_old_operator_writes_nothing_once_the_new_one_holds_the_lease(ground):
    life = asyncio.create_task(undisturbed(ground))
    scene = await ground.scene()
    await scene.declare()
    old, new, deaf = Timed(), Timed(), Deaf()
    first = await scene.start(old, identity="old", lease_seconds=LEASE_SECONDS)
    first.lease.client.observers.append(deaf)
    await play(scene, LIFE[:2])
    deaf.closed = True
    living = asyncio.create_task(play(scene, LIFE[2:], seconds=120))
    await scene.start(new, identity="new", lease_seconds=LEASE_SECONDS)
    began = time.monotonic()
    await living
    assert old.last < began
    assert new.writes
    _, wanted = await life
    assert await lasting(scene, wanted) == []


@pytest.mark.survives(
    "Operator",
    "two at once that both believe to lead",
    "the same Jobs and the same end; at most twice the status writes",
)
async def test_two_operators_that_both_believe_to_lead_do_no_harm(ground):
    life = asyncio.create_task(undisturbed(ground))
    scene = await ground.scene()
    await scene.declare()
    one, other = Recorder(), Recorder()
    await scene.start(one, lease_name="one")
    await scene.start(other, lease_name="other")
    await play(scene, seconds=120)
    writes, wanted = await life
    assert await lasting(scene, wanted) == []
    assert (await world_of(scene))["jobs ever"] == wanted["jobs ever"]
    answered = [write for write in one.writes + other.writes if "/status" in write[1]]
    assert len(answered) <= 2 * writes
