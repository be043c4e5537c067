"""Rows that several pods share, with a real API server: tokenized, trained on, scored, promoted.

An operator that ends before or after any write of it leaves one Indexed Job before the training and
one that evaluates, each with all its pods, and no attempt is lost.
"""

import functools
import json

import pytest
from faults.crashing import crash_at_writes_of
from faults.directing import attempt_of, directed, unless_gone
from faults.life import LIFE, play

from springtide_operator.cluster.api.kinds import POD

pytestmark = pytest.mark.apiserver

SIDE_BY_SIDE = 12
SAMPLE = 12
"""Every so many of the crashes are tried by the shorter test."""
PODS = {"tokenize": 4, "evaluate": 3}
"""By the stages whose pods share rows."""


async def on_generation_one(ground, *hooks):
    """Generation 1 is live; the next one has more rows of both kinds than a shard."""
    scene = await directed(ground)
    await scene.declare()
    await scene.start(*hooks)
    await play(scene, LIFE[:2])
    scene.held |= {*PODS}
    scene.world.training_rows_of_a_month, scene.world.rows_of_a_month = 3500, 2500
    scene.world.months.append("2025-03")
    window, compute = {"rowsPerShard": 1000}, {"gpusPerNode": 1}
    await scene.merge({"data": {"window": window}, "training": {"compute": compute}})
    return scene


async def tokenized_and_scored_by_several_pods(scene):
    """The update is suspended while pods tokenize; the first pod that scores ends first."""
    await scene.ask("run@2")
    job = await scene.job("tokenize", since=2)
    uid = job["metadata"]["uid"]
    for pod in await running(scene, job):
        await unless_gone(scene._delete(POD, pod))
    await scene.merge({"suspend": True})
    await scene.until(lambda scene: scene.started[uid]["spec"].get("suspend"))
    await scene.merge({"suspend": False})
    await scene.until(lambda scene: not scene.started[uid]["spec"].get("suspend"))
    await ended(scene, job, await running(scene, job))
    job = await scene.job("evaluate", since=2)
    pods = await running(scene, job)
    await scene.until(lambda scene: len(recorded(scene)) == len(pods))
    await ended(scene, job, pods)
    await scene.until(lambda scene: (scene.update_status.get("live") or {}).get("number") == 2)
    await scene.until(lambda scene: not scene.jobs())


async def running(scene, job):
    """Let all pods of an Indexed Job run."""
    return [await scene.node_pod(job, index) for index in range(job["spec"]["completions"])]


def recorded(scene):
    """The pods that evaluate, as the status has them."""
    return (scene.generation(2).get("evaluation") or {}).get("pods") or []


async def ended(scene, job, pods):
    """Let them end well, the first one before the others; the Job may be deleted meanwhile."""
    message = json.dumps(await scene.result(job))
    for pod in pods:
        await unless_gone(scene.end_pod(pod, "Succeeded", 0, message))
        message = ""
    await unless_gone(scene.finish(job, "SuccessCriteriaMet", "Complete"))


def problems(scene):
    """What is not as it must be at the end."""
    second = scene.generation(2)
    training, evaluation = second["training"], second["evaluation"]
    ever = [raw for raw in scene.started.values() if "-g2-" in raw["metadata"]["name"]]
    shared = [raw["spec"] for raw in ever if raw["spec"].get("completionMode") == "Indexed"]
    checks = {
        "jobs": sorted((scene.stage(raw), attempt_of(raw)) for raw in ever)
        == [("evaluate", 1), ("tokenize", 1), ("train", 1)],
        "pods": sorted(spec["completions"] for spec in shared) == sorted(PODS.values()),
        "together": all(spec["parallelism"] == spec["completions"] for spec in shared),
        "gpus": sorted(filter(None, map(gpus_of, ever))) == ["1", "1"],
        "attempts": (training["attempt"], evaluation["attempt"]) == (1, 1),
        "failures": (training["failedAttempts"], evaluation["failedAttempts"]) == (0, 0),
        "promoted": (second["verdict"], second["outcome"]) == ("Accepted", "Live"),
        "left": not scene.jobs(),
    }
    return [name for name, holds in checks.items() if not holds]


def gpus_of(job):
    """GPUs of each pod of a Job; None where it holds none."""
    return job["metadata"]["annotations"].get("springtide.dev/gpus")


@pytest.mark.survives(
    "Jobs and pods",
    "rows of training and holdout are both more than a shard, and the update is suspended while "
    "pods tokenize, on the API server",
    "one Indexed Job tokenizes, is suspended and resumed, and another one scores; the generation "
    "is promoted",
)
async def test_rows_are_tokenized_and_scored_by_several_pods_and_promoted(ground):
    scene = await on_generation_one(ground)
    await tokenized_and_scored_by_several_pods(scene)
    assert problems(scene) == []


async def crash_at(ground, every):
    return await crash_at_writes_of(
        functools.partial(on_generation_one, ground),
        tokenized_and_scored_by_several_pods,
        problems,
        every=every,
        side_by_side=SIDE_BY_SIDE,
    )


@pytest.mark.survives(
    "Jobs and pods",
    "the operator is ended before or after one of its writes while several pods tokenize, or score "
    "a holdout; tested at some writes",
    "one Job for each stage, with all its pods; no attempt fails, and the generation is promoted",
)
@pytest.mark.faults
@pytest.mark.timeout(900)
async def test_a_crash_at_some_writes_while_pods_share_rows_changes_nothing(ground):
    assert await crash_at(ground, SAMPLE) == {}


@pytest.mark.faults
@pytest.mark.timeout(3600)
async def test_a_crash_at_every_write_while_pods_share_rows_changes_nothing(ground):
    assert await crash_at(ground, 1) == {}
