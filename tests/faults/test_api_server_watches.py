"""Watches end with errors, or miss changes; the operator learns of the changes all the same."""

import asyncio
import json
from collections import Counter

import pytest
from faults.life import LIFE, play
from faults.process import Process
from faults.rules import end_watch, error_event, rewrite
from faults.test_crashes import lasting, undisturbed
from patience import within

from springtide_operator.cluster.api.kinds import DEPLOYMENT, LEASE, POD, UPDATE
from springtide_operator.cluster.watching.watches import LABELS, OWN

pytestmark = pytest.mark.apiserver

THEIRS = {kind.plural for kind in LABELS if kind not in OWN}
ERRORS = 12
TROUBLE_SECONDS = 120
MOST_RESTARTS = 3


@pytest.mark.survives(
    "API server",
    "ends every watch with an ERROR 500 for two minutes",
    "the same result; the process restarts at most three times",
)
@pytest.mark.faults
async def test_work_continues_while_every_watch_ends_with_an_error(ground, proxy, tmp_path):
    life = asyncio.create_task(undisturbed(ground))
    scene = await ground.scene()
    await scene.declare()
    ended = Counter()

    def failing(call):
        if call.watch:
            ended[call.kind] += 1
        return call.watch

    process = Process(scene, tmp_path / "log", proxy.kubeconfig)
    await process.start()
    keeping = asyncio.create_task(process.keep())
    try:
        with proxy.ruled(rewrite(end_watch(0.5, error_event(500)), of=failing)):
            living = asyncio.create_task(play(scene, seconds=TROUBLE_SECONDS + 120))
            await asyncio.sleep(TROUBLE_SECONDS)
            assert 1 <= process.restarts <= MOST_RESTARTS
            assert min(ended[kind.plural] for kind in OWN) >= process.restarts
        await living
        _, wanted = await life
        assert await lasting(scene, wanted) == []
    finally:
        keeping.cancel()
        await process.close()


@pytest.mark.survives(
    "API server",
    "ends every watch of Jobs, pods and Deployments with an ERROR 500, twelve times in a row "
    "and more",
    "the same result; the process does not restart",
)
async def test_errors_in_watches_of_other_kinds_do_not_end_the_process(ground, proxy):
    life = asyncio.create_task(undisturbed(ground))
    scene = await ground.scene()
    await scene.declare()
    ended = Counter()

    def failing(call):
        if call.watch and call.kind in THEIRS:
            ended[call.kind] += 1
        return call.watch and call.kind in THEIRS

    proxy.rules.append(rewrite(end_watch(0.5, error_event(500)), of=failing))
    operator = await scene.start(through=proxy.connection)
    await play(scene, seconds=240)
    await scene.until(lambda scene: min(ended.values()) >= ERRORS)
    assert not operator.ended.done()
    assert operator.health().problems() == []
    _, wanted = await life
    assert await lasting(scene, wanted) == []


@pytest.mark.survives(
    "API server",
    "ends a watch of updates with an ERROR 500",
    "exit status 1, the Lease is released, and the next process continues",
)
async def test_an_error_in_a_watch_of_updates_ends_the_process_in_order(ground, proxy, tmp_path):
    scene = await ground.scene()
    await scene.declare()
    process = Process(scene, tmp_path / "log", proxy.kubeconfig)
    try:
        await process.start()
        await play(scene, LIFE[:1])
        failing = rewrite(
            end_watch(0.1, error_event(500)),
            of=lambda call: call.watch and call.kind == "incrementalupdates",
        )
        with proxy.ruled(failing):
            await proxy.refuse()  # or the watch under way would last
            await proxy.accept()
            assert await process.ended() == 1
        lease = await scene.client.get(LEASE, scene.namespace, "springtide-operator")
        assert lease["spec"]["holderIdentity"] == ""
        await process.start()
        await play(scene, LIFE[1:2])
        assert await process.terminate() == 0
    finally:
        await process.close()


class Gap:
    """Passes the lines of watches on until it is opened; then they are lost, up to a 410."""

    def __init__(self):
        self.opened, self.over = asyncio.Event(), asyncio.Event()

    async def __call__(self, lines):
        async for line in lines:
            if self.opened.is_set():
                break
            yield line
        await self.over.wait()
        yield error_event(410)


def held(operator, kind):
    return {
        (raw["metadata"]["name"], raw["metadata"]["resourceVersion"])
        for raw in operator.cache.stores[kind].all()
    }


async def listed(scene, kind):
    items = (await scene.client.list_all(kind, scene.namespace, labels=LABELS[kind])).items
    return {(raw["metadata"]["name"], raw["metadata"]["resourceVersion"]) for raw in items}


async def as_listed(scene, operator):
    return all([held(operator, kind) == await listed(scene, kind) for kind in LABELS])


@pytest.mark.survives(
    "API server",
    "answers 410 to every watch, after updates, pods and Deployments were created, edited, "
    "deleted and recreated meanwhile",
    "the cache equals a fresh list of each kind within 5 s; nothing is written for a deleted "
    "update, its generations or Jobs, also when its pod and Deployment are deleted later",
)
async def test_changes_during_a_watch_gap_are_known_after_it_and_deleted_updates_stay_deleted(
    ground, proxy
):
    scene = await ground.scene(prompt=False)
    names = ("gone", "again", "edited", "left")
    for name in names:
        await scene.declare(name, f"ranker-{name}")
    gap = Gap()
    open_watches = rewrite(gap, of=lambda call: call.watch and not gap.over.is_set())
    proxy.rules.append(open_watches)
    operator = await scene.start(through=proxy.connection)
    await scene.until(lambda scene: len(scene.jobs()) == len(names))
    pods = {name: await pod_of(scene, name) for name in names}
    while len(held(operator, POD)) < len(names):
        await asyncio.sleep(0.1)

    gap.opened.set()
    dead = ["/gone", '"gone']
    for name in ("gone", "again"):
        uid = (await scene.client.get(UPDATE, scene.namespace, name))["metadata"]["uid"]
        dead.append(uid)
        await scene.client.delete(UPDATE, scene.namespace, name, uid=uid)
    await delete(scene, POD, pods["left"])
    await pod_of(scene, "left")
    await scene.status(POD, pods["edited"], {"phase": "Running"})
    await delete(scene, DEPLOYMENT, await ranker(scene, "left"))
    await scale(scene, "edited")
    await scene.declare_update("again", "ranker-again")
    await scene.declare("new", "ranker-new")
    await scene.edit("edited", suspend=True)
    before = len(proxy.writes)
    gap.over.set()
    async with within(5):
        while not await as_listed(scene, operator):
            await asyncio.sleep(0.1)

    await scene.until(lambda scene: all(phase(scene, name) for name in ("again", "new")))
    await scene.until(lambda scene: phase(scene, "edited") == "Suspended")
    await delete(scene, POD, pods["gone"])
    await delete(scene, DEPLOYMENT, await ranker(scene, "gone"))
    await asyncio.sleep(2)
    # A status may be sent before the watch reports the deletion: the uid in it gets it refused.
    written = [call for call in proxy.writes[before:] if call.status < 300]
    assert written
    said = [f"{call.verb} {call.url} {changes(call)}" for call in written]
    assert [each for each in said if any(word in each for word in dead)] == []


def changes(call):
    """What a write changes: a patch tests what was seen, such as the uid of a predecessor."""
    body = json.loads(call.body)
    changed = [each for each in body if each["op"] != "test"] if isinstance(body, list) else body
    return json.dumps(changed)


async def pod_of(scene, name):
    """Make a pod of the Job of an update."""
    (job,) = [raw for raw in scene.started.values() if raw["metadata"]["name"].startswith(name)]
    return await scene.pod(job, "Pending", None, "")


async def delete(scene, kind, raw):
    metadata = raw["metadata"]
    place = scene.namespace, metadata["name"]
    await scene.client.delete(kind, *place, uid=metadata["uid"])


async def ranker(scene, name):
    return await scene.client.get(DEPLOYMENT, scene.namespace, f"ranker-{name}")


async def scale(scene, name):
    metadata = {"namespace": scene.namespace, "name": f"ranker-{name}"}
    body = {"metadata": metadata, "spec": {"replicas": 3}}
    await scene.client.apply(DEPLOYMENT, body, manager="person", force=True)


def phase(scene, name):
    raw = scene.ground.cache.get(UPDATE, scene.namespace, name)
    return (raw.get("status") or {}).get("phase")
