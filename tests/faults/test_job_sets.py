"""A training on two nodes with a real API server: held, evicted on one node, and promoted.

An operator that ends before or after any write of it leaves one JobSet for each attempt.
"""

import asyncio

import pytest
from cluster import job_sets
from faults.crashing import crash_at_writes, crash_during
from faults.directing import directed
from faults.job_sets import JobSets
from faults.life import LIFE, play
from faults.playing import Recorder

from springtide_operator.cluster.watching import optional_kind

pytestmark = pytest.mark.apiserver

SIDE_BY_SIDE = 6


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """The first update on several nodes is noticed at once, and so is a CRD."""
    for name in ("NEEDED_SECONDS", "STARTING_SECONDS", "UNAVAILABLE_SECONDS"):
        monkeypatch.setattr(optional_kind, name, 0.1)


@pytest.fixture
async def on_nodes(ground, kinds):
    """The API server with JobSets; each controller ends with the test."""
    job_sets.install(kinds)
    running = []
    yield ground, running
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


async def on_generation_one(on_nodes, *hooks):
    """Generation 1 is live; the next training has two nodes."""
    ground, running = on_nodes
    scene = await directed(ground)
    await scene.declare()
    await scene.start(*hooks)
    await play(scene, LIFE[:2])
    scene.held.add("train")
    scene.world.months.append("2025-03")
    await scene.merge({"training": {"compute": {"nodes": 2, "gpusPerNode": 1}}})
    scene.sets = JobSets(scene)
    running.append(asyncio.create_task(scene.sets.run()))
    return scene


async def runs(scene, attempt, admission):
    """Let the pods of an attempt run, until all of them are in status; return their Job."""
    job = await scene.job("train", attempt, since=2)
    uid = job["metadata"]["uid"]
    await scene.until(lambda scene: not scene.started[uid]["spec"].get("suspend"))
    await scene.sets.begin(job)
    await scene.until(lambda scene: len(scene.generation(2)["training"]["pods"]) == 2 * admission)
    return scene.started[uid]


async def held_evicted_and_promoted(scene):
    """Generation 2 runs on two nodes, is suspended, loses a pod, and its second attempt ends."""
    await scene.ask("run@2")
    job = await runs(scene, 1, 1)
    uid = job["metadata"]["uid"]
    await scene.merge({"suspend": True})
    await scene.until(lambda scene: scene.started[uid]["spec"].get("suspend"))
    await scene.merge({"suspend": False})
    job = await runs(scene, 1, 2)
    await scene.sets.lose(job, 1)
    job = await runs(scene, 2, 1)
    await scene.sets.succeed(job)
    await scene.until(lambda scene: (scene.update_status.get("live") or {}).get("number") == 2)
    await scene.until(lambda scene: not scene.jobs())


def problems(scene):
    """What is not as it must be at the end."""
    training, ever = scene.generation(2)["training"], scene.sets.ever.values()
    checks = {
        "attempts": (training["attempt"], training["failedAttempts"]) == (2, 0),
        "sets": sorted(raw["metadata"]["name"][-7:] for raw in ever) == ["train-1", "train-2"],
        "recorded": training["jobUid"] in scene.sets.ever,
        "restarts": {raw["spec"]["failurePolicy"]["maxRestarts"] for raw in ever} == {0},
        "nodes": {raw["metadata"]["annotations"]["springtide.dev/nodes"] for raw in ever} == {"2"},
        "time": training["gpuSeconds"] >= training["runningSeconds"] >= 0,
    }
    return [name for name, holds in checks.items() if not holds]


@pytest.mark.survives(
    "Several nodes",
    "a training on two nodes is suspended with its update, resumed, and loses a pod by an "
    "eviction, on the API server",
    "the same JobSet goes on after the suspension; after the eviction the next attempt, which does "
    "not count, is promoted",
)
async def test_a_training_on_two_nodes_is_held_evicted_and_promoted(on_nodes):
    scene = await on_generation_one(on_nodes)
    await held_evicted_and_promoted(scene)
    assert problems(scene) == []


@pytest.mark.survives(
    "Several nodes",
    "the CRD of JobSet is absent, and is installed later, on the API server",
    "the update is `Stalled/JobSetMissing`, and its training starts without a restart of the "
    "operator",
)
async def test_a_training_waits_for_the_kind_and_starts_once_it_is_installed(on_nodes, kinds):
    kinds.kubectl("delete", "crd", job_sets.CRD)
    try:
        scene = await on_generation_one(on_nodes)

        def stalled(scene):
            reasons = {c["type"]: c["reason"] for c in scene.update_status["conditions"]}
            return reasons.get("Stalled") == "JobSetMissing"

        await scene.until(stalled)
        await scene.ask("run@2")
        await scene.until(lambda scene: len(scene.runs("probe")) == 2 and stalled(scene))
    finally:
        job_sets.install(kinds)
    await runs(scene, 1, 1)
    assert not stalled(scene)


async def crash_at(on_nodes, every):
    recorder = Recorder()
    scene = await on_generation_one(on_nodes, recorder)
    before = len(recorder.writes)
    await held_evicted_and_promoted(scene)
    assert problems(scene) == []

    async def disturbed(crash):
        scene = await on_generation_one(on_nodes)
        await crash_during(scene, crash, held_evicted_and_promoted(scene))
        return problems(scene)

    numbers = range(1, len(recorder.writes) - before + 1)
    return await crash_at_writes(numbers, disturbed, every=every, side_by_side=SIDE_BY_SIDE)


@pytest.mark.faults
@pytest.mark.timeout(3600)
async def test_a_crash_at_every_write_of_a_training_on_two_nodes_changes_nothing(on_nodes):
    assert await crash_at(on_nodes, 1) == {}
