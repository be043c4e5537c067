"""Two operators at once: with the Lease only one writes; without it they do no harm."""

import asyncio
import json
import time
from collections import Counter

import pytest
from faults.crowd import Crowd, open_server, populate
from faults.life import play
from faults.playing import Recorder
from faults.process import Process
from faults.proxy import Proxy
from faults.rules import Nth
from faults.test_crashes import lasting, live, undisturbed
from handlers.edge import Edge
from handlers.stand_ins import StandIns
from local_cluster.apiserver import ApiServer
from patience import within

from springtide_api.objects import parse_generation
from springtide_operator.assembly import Operator
from springtide_operator.cluster.api.client import Client
from springtide_operator.cluster.api.clock import ServerClock
from springtide_operator.cluster.api.connection import Connection
from springtide_operator.cluster.api.kinds import DEPLOYMENT, GENERATION, JOB
from springtide_operator.cluster.api.limits import Limits
from springtide_operator.cluster.watching.cache import Store
from springtide_operator.settings import Settings

pytestmark = pytest.mark.apiserver

LEASE_SECONDS = 15
LAST_SECONDS = 40
"""The old one ends at the latest so long after it lost the Lease: a renewal takes 10 s to fail."""
FEW, MANY = 20, 200


class Frozen:
    """Stops the process while the API server carries out the write that `of` picks."""

    def __init__(self, of):
        self.of, self.happened, self.process = of, asyncio.Event(), None

    async def __call__(self, call, pass_on):
        if self.of(call) and not self.happened.is_set():
            self.process.freeze()
            self.happened.set()
        return await pass_on()


class Deaf(Frozen):
    """From that write on nothing of the Lease gets through in either direction, all else does."""

    async def __call__(self, call, pass_on):
        if self.of(call):
            self.happened.set()
        if call.lease and self.happened.is_set():
            await asyncio.Event().wait()
        return await pass_on()


def of(verb, kind, name=""):
    """Pick writes by the object's kind and a part of its path."""
    return lambda call: (call.verb, call.kind) == (verb, kind) and name in call.path


async def overtaken(ground, folder, wanted, fault):
    """Let a second operator wait for the Lease while a fault befalls the first one's process."""
    scene = await ground.scene()
    folder = folder / scene.namespace
    (folder / "new").mkdir(parents=True)
    async with (
        Proxy(ground.kubeconfig, folder) as old,
        Proxy(ground.kubeconfig, folder / "new") as new,
    ):
        old.rules.append(fault)
        fault.process = process = Process(
            scene,
            folder / "log",
            old.kubeconfig,
            identity="old",
            lease_seconds=LEASE_SECONDS,
        )
        await scene.declare()
        living = asyncio.create_task(play(scene, seconds=240))
        try:
            await process.start()
            await scene.until(lambda _: fault.happened.is_set())
            second = {"identity": "new", "lease_seconds": LEASE_SECONDS}
            await scene.start(through=new.connection, **second)
            await scene.until(lambda _: new.writes)
            process.thaw()
            async with within(LAST_SECONDS):
                assert await process.ended() == 1
            await living
            return late(old, new) + await lasting(scene, wanted)
        except AssertionError as error:
            return [str(error)]
        finally:
            living.cancel()
            await process.close()
            await scene.close()


def late(old, new):
    """Name what the old one sent after the new one had sent for the Lease, refused renewals apart.

    Before that the new one cannot have held it.
    """
    taken = next(call.at for call in new.calls if takes(call))
    assert any(call.at < taken for call in old.writes)
    return [
        f"{call.verb} {call.path} {call.at - taken:.3f} s after the Lease was taken: {call.status}"
        for call in old.calls
        if call.at >= taken and (call.number or (writes_lease(call) and answered_well(call)))
    ]


def takes(call):
    """Whether it changes the holder of the Lease."""
    if not (writes_lease(call) and answered_well(call)):
        return False
    spec = json.loads(call.body)["spec"]
    return spec["acquireTime"] == spec["renewTime"]


def writes_lease(call):
    return call.lease and call.verb in ("POST", "PUT")


def answered_well(call):
    return 200 <= call.status < 300


@pytest.mark.survives(
    "Operator",
    "its process is paused for longer than the Lease lasts and continues when another process "
    "holds it; or all its renewals are lost while its writes succeed",
    "no write of the old process reaches the API server after the new one requested the Lease; "
    "the old process ends by itself; the result is the same",
)
@pytest.mark.timeout(300)
async def test_the_old_operator_writes_nothing_once_the_new_one_holds_the_lease(ground, tmp_path):
    _, wanted = await undisturbed(ground)
    faults = {
        "frozen while it records an attempt": Frozen(of("PATCH", "modelgenerations", "shop-g1")),
        "frozen while it makes a Job": Frozen(Nth(3, of("POST", "jobs"))),
        "frozen while it rolls out": Frozen(Nth(2, of("PATCH", "deployments"))),
        "cut off from the Lease": Deaf(Nth(2, of("POST", "modelgenerations"))),
    }
    lives = (overtaken(ground, tmp_path, wanted, fault) for fault in faults.values())
    found = dict(zip(faults, await asyncio.gather(*lives), strict=True))
    assert {fault: wrong for fault, wrong in found.items() if wrong} == {}


def statuses(*recorders):
    """Count the writes of statuses."""
    return sum(path.endswith("/status") for each in recorders for _, path in each.writes)


@pytest.mark.survives(
    "Operator",
    "two operators at once that both hold themselves for leader",
    "the same Jobs and the same result; at most twice the status writes of one operator",
)
async def test_two_operators_that_both_hold_themselves_for_leader_do_no_harm(ground):
    scene, alone, one, other = await ground.scene(), Recorder(), Recorder(), Recorder()
    await scene.declare()
    await scene.start(one, lease_name="one")
    await scene.start(other, lease_name="other")
    wanted, _ = await asyncio.gather(live(ground, alone), play(scene, seconds=240))
    assert await lasting(scene, wanted) == []
    assert statuses(one, other) <= 2 * statuses(alone)


class Runs(Crowd):
    """Ends the Jobs of a whole first run, too, and lets the Deployments roll."""

    def __init__(self, client):
        super().__init__(client)
        self.cache.stores[DEPLOYMENT] = Store(lambda raw: "", lambda raw: None)
        self.world.months = ["2025-01", "2025-02"]
        self.jobs = {}
        """Every Job that ever was, by uid."""

    def changed(self, kind, raw):
        super().changed(kind, raw)
        metadata = raw["metadata"]
        if kind == JOB:
            self.jobs[metadata["uid"]] = (metadata["namespace"], metadata["name"])
        if kind == DEPLOYMENT:
            self._do(StandIns(self.client, metadata["namespace"]).roll(raw))

    def is_there(self, raw):
        status = raw.get("status") or {}
        return status.get("phase") == "Idle" and (status.get("live") or {}).get("number") == 1

    async def end(self, job):
        if self.stage(job) == "evaluate":
            labels = job["metadata"]["labels"]
            name = f"{labels['springtide.dev/update']}-g1"
            held = await self.client.get(GENERATION, job["metadata"]["namespace"], name)
            self.world.generations["shop-g1"] = parse_generation(held)
        await super().end(job)

    async def revisions(self, namespace):
        """How often the Deployments were changed."""
        every = (await self.client.list_all(DEPLOYMENT, namespace)).items
        return Counter(raw["metadata"]["generation"] for raw in every)


async def through_a_run(watching, connection, namespace, count, operators):
    """Live through the first run of so many updates; return the operators' status writes."""
    recorders = [Recorder() for _ in range(operators)]
    await populate(watching.client, namespace, count)
    started = []
    try:
        for number, recorder in enumerate(recorders):
            settings = Settings(
                "trainer",
                "http://operator:8080",
                namespace=namespace,
                lease_name=f"{namespace}-{number}",
            )
            operator = Operator(settings, connection)
            operator.ended.add_done_callback(lambda ended: ended.exception())
            operator.client.write_hooks.append(recorder)
            started.append(Edge(operator))
            await started[-1].start()
        while Counter(watching.arrived)[namespace] < count:
            assert not any(each.operator.ended.done() for each in started)
            await asyncio.sleep(0.5)
        return statuses(*recorders)
    finally:
        for each in started:
            await each.drop()


@pytest.mark.faults
@pytest.mark.timeout(1200)
@pytest.mark.survives(
    "Operator",
    "two operators at once that both hold themselves for leader, with 200 updates in their "
    "first run",
    "one Job for each attempt, no further attempt or Deployment revision; at most twice the "
    "status writes of one operator",
)
async def test_two_operators_that_both_hold_themselves_for_leader_do_no_harm_to_200_updates():
    server = ApiServer()
    try:
        open_server(server)
        connection = await Connection.open(server.kubeconfig)
        limits = Limits(per_second=2000, burst=1000, in_flight=100, monotonic=time.monotonic)
        watching = Runs(Client(connection, ServerClock(time.monotonic), limits))
        watching.watch()
        few = await through_a_run(watching, connection, "alone", FEW, 1)
        many = await through_a_run(watching, connection, "both", MANY, 2)
        jobs = {"alone": [], "both": []}
        for namespace, name in watching.jobs.values():
            jobs[namespace].append(name)
        assert len(jobs["both"]) == len(set(jobs["both"])) == len(jobs["alone"]) * MANY / FEW
        assert set(await watching.revisions("both")) == set(await watching.revisions("alone"))
        assert many / MANY <= 2 * few / FEW
    finally:
        await watching.go()
        await connection.close()
        server.close()
