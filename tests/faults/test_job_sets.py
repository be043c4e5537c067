"""A training on two nodes with a real API server: held, evicted on one node, and promoted.

An operator that ends before or after any write of it leaves one JobSet for each attempt.
"""

import functools

import pytest
from cluster import job_sets
from faults.crashing import crash_at_writes_of
from faults.directing import directed
from faults.job_sets import RAN, JobSets
from faults.life import LIFE, play

pytestmark = [pytest.mark.apiserver, pytest.mark.usefixtures("soon")]

SIDE_BY_SIDE = 6
SAMPLE = 12
"""Every so many of the crashes are tried by the shorter test."""
TOLERANCE = 900
"""Seconds that a life may take; what is lost with one pod is more."""


@pytest.fixture
def on_nodes(ground, kinds, begin):
    """The API server with JobSets, and what begins a controller."""
    job_sets.install(kinds)
    return ground, begin


async def on_generation_one(on_nodes, *hooks):
    """Generation 1 is live; the next training has two nodes."""
    ground, _ = on_nodes
    scene = await directed(ground)
    await scene.declare()
    await scene.start(*hooks)
    await play(scene, LIFE[:2])
    scene.held.add("train")
    scene.world.months.append("2025-03")
    await scene.merge({"training": {"compute": {"nodes": 2, "gpusPerNode": 1}}})
    attend(on_nodes, scene)
    return scene


def attend(on_nodes, scene):
    """Start a controller of JobSets in a scene."""
    _, begin = on_nodes
    scene.sets = JobSets(scene)
    begin(scene.sets.run())


async def held_evicted_and_promoted(scene):
    """Generation 2 runs on two nodes, is suspended, loses a pod, and its second attempt ends."""
    await scene.ask("run@2")
    job = await scene.sets.run_pods(1, 1)
    uid = job["metadata"]["uid"]
    await scene.merge({"suspend": True})
    await scene.until(lambda scene: scene.started[uid]["spec"].get("suspend"))
    await scene.merge({"suspend": False})
    job = await scene.sets.run_pods(1, 2)
    await scene.sets.lose(job, 1)
    job = await scene.sets.run_pods(2, 1)
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
        "time": abs(training["runningSeconds"] - 2 * RAN.seconds) < TOLERANCE,
        "gpus": abs(training["gpuSeconds"] - 6 * RAN.seconds) < TOLERANCE,
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
    await scene.sets.run_pods(1, 1)
    assert not stalled(scene)


async def crash_at(on_nodes, every):
    return await crash_at_writes_of(
        functools.partial(on_generation_one, on_nodes),
        held_evicted_and_promoted,
        problems,
        every=every,
        side_by_side=SIDE_BY_SIDE,
        attend=functools.partial(attend, on_nodes),
    )


@pytest.mark.survives(
    "Several nodes",
    "the operator is ended before or after one of its writes while a training on two nodes runs, "
    "is suspended and resumed, loses a pod and is repeated; tested at some writes",
    "one JobSet for each attempt, the second is promoted; the time of each pod counts once",
)
@pytest.mark.faults
@pytest.mark.timeout(900)
async def test_a_crash_at_some_writes_of_a_training_on_two_nodes_changes_nothing(on_nodes):
    assert await crash_at(on_nodes, SAMPLE) == {}


@pytest.mark.faults
@pytest.mark.timeout(3600)
async def test_a_crash_at_every_write_of_a_training_on_two_nodes_changes_nothing(on_nodes):
    assert await crash_at(on_nodes, 1) == {}
