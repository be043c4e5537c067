"""The update is deleted during a run: a rollout is undone, the served model stays."""

import asyncio
import time

import pytest
from faults.directing import directed
from faults.life import LIFE, play
from faults.playing import Recorder
from patience import within

from springtide_operator.cluster.api.kinds import GENERATION, JOB, NAMESPACE

pytestmark = pytest.mark.apiserver

SOON = 30
"""Seconds in which an update is gone once the operator works."""
QUIET = 15
"""Seconds at the end in which nothing more may be tried, whatever wakes the update."""


async def until_train(ground, **changes):
    scene = await directed(ground)
    await scene.declare(**changes)
    await scene.start()
    await play(scene, LIFE[:2])
    scene.held.add("train")
    scene.world.months.append("2025-03")
    await scene.ask("run@2")
    await scene.job("train", since=2)
    return scene


async def until_roll(ground, **changes):
    scene = await directed(ground)
    await scene.declare(**changes)
    await scene.start()
    await play(scene, LIFE[:2])
    scene.pods_ready = False
    scene.world.months.append("2025-03")
    await scene.ask("run@2")
    await scene.until(lambda scene: len(scene.templates) == 2)
    return scene


async def delete(kinds, scene, *options):
    place = ("-n", scene.namespace, "--wait=false")
    await asyncio.to_thread(kinds.kubectl, "delete", "iu", "shop", *place, *options)


async def left(scene):
    """Names of the Jobs and generations that are there."""
    return [
        raw["metadata"]["name"]
        for kind in (JOB, GENERATION)
        for raw in (await scene.client.list_all(kind, scene.namespace)).items
    ]


@pytest.mark.survives(
    "People",
    "the update is deleted during training, also while the operator is down",
    "deleted at once, no finalizer holds it; its Jobs are deleted through their owner "
    "reference, generations stay under Orphan and are deleted under Delete; the served model "
    "stays",
)
async def test_an_update_deleted_in_training_leaves_nothing_that_runs(ground, kinds):
    async def deleted(policy, kept, *, down):
        scene = await until_train(ground, deletionPolicy=policy)
        uid = (await scene.update())["metadata"]["uid"]
        for job in (await scene.client.list_all(JOB, scene.namespace)).items:
            (owner,) = job["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["uid"]) == ("IncrementalUpdate", uid)
            assert owner["controller"]
        served, templates = await scene.deployment(), list(scene.templates)
        if down:
            await scene.drop()
        await delete(kinds, scene)
        await scene.gone()
        await scene.collect()
        if down:
            await scene.start()
        await asyncio.sleep(3)
        assert await left(scene) == kept
        assert (await scene.deployment())["spec"] == served["spec"]
        assert scene.templates == templates

    stay = ["shop-g0", "shop-g1", "shop-g2"]
    await asyncio.gather(
        deleted("Orphan", stay, down=False),
        deleted("Orphan", stay, down=True),
        deleted("Delete", [], down=False),
        deleted("Delete", [], down=True),
    )


@pytest.mark.survives(
    "People",
    "the update is deleted during a rollout, also while the operator is down",
    "held by a finalizer until the template of every target is back on the live generation, "
    "then deleted, although no pod becomes ready; if the operator was down, within 30 s after "
    "it is back, under Orphan and under Delete",
)
async def test_an_update_deleted_in_a_rollout_is_gone_once_its_targets_are_rolled_back(
    ground, kinds
):
    async def deleted(policy, *, down):
        scene = await until_roll(ground, deletionPolicy=policy)
        live = scene.generation(1)["artifact"]["servedDigest"]
        if down:
            await scene.drop()
        await delete(kinds, scene)
        if down:
            await asyncio.sleep(2)
            assert (await scene.update())["metadata"]["finalizers"] == ["springtide.dev/rollout"]
        async with within(SOON):
            if down:
                await scene.start()
            await scene.until(lambda scene: scene.templates[-1] == live)
            await scene.gone()
        assert len(scene.templates) == 3
        if policy == "Orphan":
            rollout = scene.generation(2)["rollout"]
            assert "deleted during the rollout" in rollout["rollbackReason"]
            assert rollout["rolledBackAt"]
        else:
            await scene.collect()
            assert await left(scene) == []

    await asyncio.gather(
        deleted("Orphan", down=False),
        deleted("Orphan", down=True),
        deleted("Delete", down=False),
        deleted("Delete", down=True),
    )


@pytest.mark.survives(
    "People",
    "the namespace is being deleted while an update trains",
    "the refusal is recognized: at most two attempts to create anything, then none for 15 s "
    "although events keep waking the update; nothing of ours holds the namespace",
)
async def test_creates_are_not_repeated_in_a_namespace_that_is_being_deleted(ground, kinds):
    scene = await until_train(ground)
    tried = Tried()
    scene.operators[0].client.write_hooks.append(tried)
    kinds.kubectl("delete", "namespace", scene.namespace, "--wait=false")
    namespace = await scene.client.get(NAMESPACE, "", scene.namespace)
    assert namespace["status"]["phase"] == "Terminating"
    (job,) = [raw for raw in scene.runs("train") if raw["metadata"]["name"] in scene.jobs()]
    await _delete(scene, job)
    await scene.until(lambda _: tried.of("POST"), seconds=10)
    for _ in range(QUIET + 2):
        await scene.touch()
        await asyncio.sleep(1)
    made = tried.of("POST")
    assert len(made) <= 2
    assert made[-1] < time.monotonic() - QUIET
    assert not (await scene.update())["metadata"].get("finalizers")
    assert not scene.operators[0].ended.done()


async def _delete(scene, job):
    metadata = job["metadata"]
    await scene.client.delete(JOB, scene.namespace, metadata["name"], uid=metadata["uid"])


class Tried(Recorder):
    """Remembers every write that was about to be sent, whatever the answer, and when."""

    def __init__(self):
        super().__init__()
        self.tries = []

    async def before_write(self, number, verb, path):
        self.tries.append((time.monotonic(), verb, path.partition("?")[0]))

    def of(self, verb, end=""):
        """When a write of such a path was tried."""
        return [at for at, tried, path in self.tries if tried == verb and path.endswith(end)]
