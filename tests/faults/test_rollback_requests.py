"""A promoted generation is rolled back by request, with a real API server.

An operator that ends before or after any write of it leaves the same objects. `kubectl rollout
undo` had set both variables before, and with them the label and annotation of the pods: they are
taken back by force, once.
"""

import pytest
from faults.copying import Snapshot
from faults.crashing import crash_at_writes, crash_during
from faults.directing import condition, directed
from faults.life import LIFE, play
from faults.owner import remember_revision, run
from faults.playing import Recorder

pytestmark = pytest.mark.apiserver

SIDE_BY_SIDE = 12
SAMPLE = 11
"""Every so many of the crashes are tried in each run of the tests."""


async def undone(ground, kinds, *hooks):
    """Generation 2 is live; a person has returned the Deployment to generation 1."""
    scene = await directed(ground)
    await scene.declare()
    await scene.start(*hooks)
    await play(scene, LIFE[:2])
    await remember_revision(scene, 1)
    await play(scene, LIFE[2:3])
    await remember_revision(scene, 2)
    await run(kinds, "rollout", "undo", "deployment/ranker", "-n", scene.namespace)
    await scene.until(
        lambda _: condition(scene.update_status, "TargetsInSync")["reason"] == "FieldConflict"
    )
    return scene


OURS = ("MODEL_URI", "MODEL_DIGEST", "springtide.dev/generation", "springtide.dev/digest")


def managers(deployment):
    """Who owns each of our fields of the pod template."""
    entries = deployment["metadata"]["managedFields"]
    fields = [(e["manager"], e["fieldsV1"].get("f:spec", {}).get("f:template")) for e in entries]
    return {key: {manager for manager, owned in fields if key in str(owned)} for key in OURS}


async def roll_back(scene):
    await scene.ask("rollback.g2@9")
    await scene.until(lambda _: is_over(scene))


def is_over(scene):
    rollout = scene.generation(2).get("rollout") or {}
    status = scene.update_status
    shown = (status["phase"], status["live"]["number"]) == ("OnHold", 1)
    return "rolledBackAt" in rollout and shown


async def problems(scene):
    """What is not as it must be at the end."""
    status, deployment = scene.update_status, await scene.deployment()
    second = scene.generation(2)
    fields = deployment["spec"]["template"]["metadata"]
    owners = managers(deployment)
    checks = {
        "outcome": [scene.generation(n).get("outcome") for n in (1, 2)] == ["Live", "RolledBack"],
        "label": fields["labels"]["springtide.dev/generation"] == "1",
        "variables": owners["MODEL_URI"] == owners["MODEL_DIGEST"] == {"springtide:shop"},
        # After the write that removed other owners an operator may have ended before its apply.
        "label and annotation": all(owners[key] <= {"springtide:shop"} for key in OURS),
        "taken": not second["rollout"].get("takeBack"),
        "reason": second["rollout"]["rollbackReason"] == "requested by rollback.g2@9",
        "counters": (status["counters"]["promoted"], status["counters"]["rolledBack"]) == (2, 1),
        "answer": status["lastRequest"]["result"] == "Accepted",
        "hold": condition(status, "ActionRequired")["reason"] == "RolledBackAfterPromotion",
        "cursor": status["cursor"]["trainedThrough"] == scene.generation(1)["trainedThrough"],
    }
    for reason in ("RollbackStarted", "RollbackCompleted"):
        # One Event on the update, one on the generation.
        checks[reason] = len(await scene.events(reason)) == 2
    return [name for name, holds in checks.items() if not holds]


@pytest.mark.survives(
    "People",
    "`kubectl rollout undo` on the API server, then the request `rollback.g<number>`",
    "both variables are taken back once; the next generation rolls out, label and annotation too",
)
async def test_a_rollback_by_request_takes_the_variables_back_from_kubectl(ground, kinds):
    scene = await undone(ground, kinds)
    before = managers(await scene.deployment())
    assert all("kubectl" in owners for owners in before.values())
    assert before["springtide.dev/generation"] == before["springtide.dev/digest"] == {"kubectl"}
    await roll_back(scene)
    assert await problems(scene) == []
    scene.world.months.append("2025-04")
    await scene.ask("retry@10")
    await scene.until(lambda _: (scene.update_status.get("live") or {}).get("number") == 3)
    owners = managers(await scene.deployment())
    assert owners == {key: {"springtide:shop"} for key in OURS}


async def crash_at(ground, kinds, every):
    recorder = Recorder()
    scene = await undone(ground, kinds, recorder)
    snapshot = await Snapshot.of(scene)
    before = len(recorder.writes)
    await roll_back(scene)
    assert await problems(scene) == []

    async def one(crash):
        return await disturbed(await snapshot.restore(), crash)

    numbers = range(1, len(recorder.writes) - before + 1)
    return await crash_at_writes(numbers, one, every=every, side_by_side=SIDE_BY_SIDE)


async def disturbed(scene, crash):
    """Let the operator end at one write of the rollback; return what is wrong at the end."""
    await crash_during(scene, crash, roll_back(scene))
    return await problems(scene)


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes while a promoted generation is rolled back by "
    "request; tested at some writes",
    "the next operator completes the rollback; cursor, counters and Events are the same",
)
@pytest.mark.timeout(900)
async def test_a_crash_at_some_writes_of_a_rollback_changes_nothing(ground, kinds):
    assert await crash_at(ground, kinds, SAMPLE) == {}


@pytest.mark.faults
@pytest.mark.timeout(3600)
async def test_a_crash_at_every_write_of_a_rollback_changes_nothing(ground, kinds):
    assert await crash_at(ground, kinds, 1) == {}
