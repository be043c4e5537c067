"""A generation is pinned during a rollout, and the pin is removed, with a real API server.

An operator that ends before or after any write from the pin to the end of the next rollout leaves
the same objects: what is pinned is served, the rollout is aborted once, and starts again.
"""

import asyncio

import pytest
from faults.copying import Snapshot
from faults.crashing import crash_at_writes, crash_during
from faults.directing import condition, directed
from faults.life import LIFE, play
from faults.playing import Recorder
from lifecycle.declared import SPEC

from springtide_operator.cluster.api.kinds import DEPLOYMENT, JOB, UPDATE

pytestmark = pytest.mark.apiserver

SIDE_BY_SIDE = 12
SAMPLE = 15
"""Every so many of the crashes are tried in each run of the tests."""


async def on_generation_two(ground, *hooks):
    """Generation 2 is live."""
    scene = await directed(ground)
    await scene.declare()
    await scene.start(*hooks)
    await play(scene, LIFE[:3])
    return scene


async def roll_out(scene):
    """Roll out generation 3, whose pods do not get ready."""
    scene.pods_ready = False
    scene.world.months.append("2025-04")
    await scene.ask("run@3")
    await scene.until(lambda _: scene.templates[-1] == digest(scene, 3) != "")


def digest(scene, number):
    return (scene.generation(number).get("artifact") or {}).get("servedDigest", "")


def rollout(scene, number):
    return scene.generation(number).get("rollout") or {}


async def pin_and_unpin(scene):
    """Pin generation 1, and remove the pin once the rollout is aborted."""
    await scene.merge({"rollout": {"pin": {"generation": 1}}})
    await scene.until(lambda _: is_pinned(scene))
    await scene.make_ready()
    await scene.merge({"rollout": {"pin": None}})
    await scene.until(lambda _: is_live(scene, 3))


def is_pinned(scene):
    """Whether the pin is carried out in full."""
    status = scene.update_status
    shown = (status["phase"], (status.get("pinned") or {}).get("number")) == ("Pinned", 1)
    raw = scene.ground.cache.get(UPDATE, scene.namespace, "shop")
    aborted = "stepStartedAt" not in rollout(scene, 3) and not raw["metadata"].get("finalizers")
    return shown and aborted and scene.templates[-1] == digest(scene, 1)


def is_live(scene, number):
    status = scene.update_status
    return (status.get("live") or {}).get("number") == number and "pinned" not in status


async def problems(scene):
    """What is not as it must be at the end."""
    one, two, three = (digest(scene, number) for number in (1, 2, 3))
    status = scene.update_status
    posted = {reason: await scene.events(reason) for reason in ("Pinned", "Unpinned")}
    checks = {
        "templates": [each for each in scene.templates if each]
        == [one, two, three, one, two, three],
        "outcome": [scene.generation(n).get("outcome") for n in (1, 2, 3)]
        == ["Superseded", "Superseded", "Live"],
        "counters": (status["counters"]["promoted"], status["counters"]["rolledBack"]) == (3, 0),
        "events": {reason: len(found) for reason, found in posted.items()}
        == {"Pinned": 1, "Unpinned": 1},
        "jobs": len(scene.runs("train")) == 3,
        "aborted": not rollout(scene, 3)["rollbackReason"],
    }
    return [name for name, holds in checks.items() if not holds]


@pytest.mark.survives(
    "People",
    "a generation is pinned during a rollout on the API server",
    "the Deployment gets it while the pods of the candidate are not ready; without the pin it "
    "returns to the live generation, and the candidate rolls out",
)
async def test_a_pin_during_a_rollout_is_served_and_the_rollout_starts_again(ground):
    scene = await on_generation_two(ground)
    await roll_out(scene)
    await pin_and_unpin(scene)
    assert await problems(scene) == []


async def test_a_pin_is_shown_by_kubectl_and_a_job_waits_for_its_end(ground, kinds):
    scene = await directed(ground)
    for name in ("ranker", "reranker"):
        await scene.declare_deployment(name)
    names = ("ranker", "reranker")
    targets = [{"targetRef": {"name": name}, "container": "server"} for name in names]
    await scene.declare_update(rollout={**SPEC["rollout"], "targets": targets})
    await scene.start()
    await play(scene, LIFE[:3])
    scene.held.add("train")
    scene.world.months.append("2025-04")
    await scene.ask("run@3")
    training = await scene.job("train", since=3)
    await scene.merge({"rollout": {"pin": {"generation": 1}}})

    async def served():
        found = [await scene.client.get(DEPLOYMENT, scene.namespace, name) for name in names]
        return {_digest(raw) for raw in found}

    def suspended(_):
        held = scene.ground.cache.get(JOB, scene.namespace, training["metadata"]["name"])
        return (
            held["spec"].get("suspend")
            and condition(scene.update_status, "Serving").get("reason") == "Pinned"
        )

    await scene.until(suspended)
    assert await served() == {digest(scene, 1)}
    shown = await asyncio.to_thread(kinds.kubectl, "get", "iu", "-n", scene.namespace)
    headings, row = (line.split("  ") for line in shown.strip().splitlines())
    cells = [[each.strip() for each in line if each.strip()] for line in (headings, row)]
    found = dict(zip(*cells, strict=True))
    assert (found["PHASE"], found["LIVE"], found["PROGRESS"]) == ("Pinned", "2", "g1 is pinned")

    await scene.merge({"rollout": {"pin": None}})
    await scene.release()
    await scene.until(lambda _: is_live(scene, 3))
    assert await served() == {digest(scene, 3)}


async def crash_at(ground, every):
    recorder = Recorder()
    scene = await on_generation_two(ground, recorder)
    snapshot = await Snapshot.of(scene)
    await roll_out(scene)
    before = len(recorder.writes)
    await pin_and_unpin(scene)
    assert await problems(scene) == []

    async def one(crash):
        return await disturbed(await snapshot.restore(), crash)

    numbers = range(1, len(recorder.writes) - before + 1)
    return await crash_at_writes(numbers, one, every=every, side_by_side=SIDE_BY_SIDE)


async def disturbed(scene, crash):
    """Let the operator end at one write of pin and unpin; return what is wrong at the end."""
    await scene.start()
    await roll_out(scene)
    await crash_during(scene, crash, pin_and_unpin(scene))
    return await problems(scene)


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes while a generation is pinned and unpinned; tested "
    "at some writes",
    "the next operator serves what is pinned, aborts the rollout once, and continues it afterwards",
)
@pytest.mark.timeout(900)
async def test_a_crash_at_some_writes_of_a_pin_changes_nothing(ground):
    assert await crash_at(ground, SAMPLE) == {}


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes while a generation is pinned and unpinned; tested "
    "at every write",
    "the next operator serves what is pinned, aborts the rollout once, and continues it afterwards",
)
@pytest.mark.faults
@pytest.mark.timeout(3600)
async def test_a_crash_at_every_write_of_a_pin_changes_nothing(ground):
    assert await crash_at(ground, 1) == {}


def _digest(deployment):
    annotations = deployment["spec"]["template"]["metadata"].get("annotations") or {}
    return annotations.get("springtide.dev/digest")
