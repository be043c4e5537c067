"""Somebody sets our variables to a value of his own: it stays, and all holds until he is done."""

import asyncio
import json

import pytest
from faults.directing import condition
from faults.owner import (
    applies,
    carries_live,
    ranker,
    remember_revision,
    run,
    serving,
    variables,
)
from faults.playing import Recorder

from springtide_operator.cluster.kinds import DEPLOYMENT

pytestmark = pytest.mark.apiserver

FOREIGN = "sha256:" + "0" * 64
REAPPLIES = 8
EVERY_SECONDS = 1.0


def in_conflict(scene):
    return condition(scene.told, "TargetsInSync").get("reason") == "FieldConflict"


def in_sync(scene):
    return condition(scene.told, "TargetsInSync").get("status") == "True"


@pytest.mark.survives(
    "Deployments",
    "`kubectl set env` sets our variable",
    "`FieldConflict` names kubectl; the value stays, live stays, no run is rolled out; once the "
    "variables are removed they are set again",
)
@pytest.mark.survives(
    "Deployments",
    "`kubectl rollout undo` goes back to the model before",
    "`FieldConflict` names kubectl; the model that was undone to stays; once the variables are "
    "removed live is served again",
)
async def test_a_value_of_a_person_stays_until_he_takes_it_back(ground, kinds):
    async def set_env():
        recorder = Recorder()
        scene = await serving(ground, recorder)
        place = ("-n", scene.namespace)
        await run(kinds, "set", "env", "deployment/ranker", f"MODEL_DIGEST={FOREIGN}", *place)
        await scene.until(in_conflict)
        assert "kubectl" in condition(scene.told, "TargetsInSync")["message"]
        known = len(applies(recorder))
        scene.world.months.append("2025-03")
        await scene.ask("run@2")
        await asyncio.sleep(6)
        assert variables(await scene.deployment())["MODEL_DIGEST"] == FOREIGN
        assert len(applies(recorder)) == known
        assert scene.told["live"]["number"] == 1
        await run(kinds, "set", "env", "deployment/ranker", "MODEL_DIGEST-", "MODEL_URI-", *place)
        await carries_live(scene)
        await scene.until(in_sync)

    async def undo():
        scene = await serving(ground)
        place = ("-n", scene.namespace)
        await remember_revision(scene, 1)
        older = variables(await scene.deployment())
        scene.world.months.append("2025-03")
        await scene.ask("run@2")
        await scene.until(lambda scene: (scene.told.get("live") or {}).get("number") == 2)
        await remember_revision(scene, 2)
        await run(kinds, "rollout", "undo", "deployment/ranker", "--to-revision=1", *place)
        assert variables(await scene.deployment()) == older
        await scene.until(in_conflict)
        assert "kubectl" in condition(scene.told, "TargetsInSync")["message"]
        await asyncio.sleep(3)
        assert variables(await scene.deployment()) == older
        assert scene.told["live"]["number"] == 2
        await run(kinds, "set", "env", "deployment/ranker", "MODEL_DIGEST-", "MODEL_URI-", *place)
        await carries_live(scene)
        await scene.until(in_sync)

    await asyncio.gather(set_env(), undo())


async def reapply(scene, body, *, force):
    """What a GitOps controller does: its whole manifest, again and again."""
    for _ in range(REAPPLIES):
        await scene.client.apply(DEPLOYMENT, body, manager="argocd-controller", force=force)
        await asyncio.sleep(EVERY_SECONDS)


@pytest.mark.survives(
    "Deployments",
    "Argo CD applies its manifest without our variables every second",
    "both keep their fields: no write of ours, a roll in between goes through",
)
@pytest.mark.survives(
    "Deployments",
    "Argo CD applies a manifest that sets our variable every second, by force",
    "`FieldConflict` names it; its value stays, nothing is written against it, live stays",
)
async def test_a_manager_that_applies_again_and_again_is_not_fought(ground):
    async def beside():
        recorder = Recorder()
        scene = await serving(ground, recorder)
        known = len(applies(recorder))
        theirs = json.loads(ranker(scene, {"name": "LOG_LEVEL", "value": "info"}))
        again = asyncio.create_task(reapply(scene, theirs, force=False))
        scene.world.months.append("2025-03")
        await scene.ask("run@2")
        await scene.until(lambda scene: (scene.told.get("live") or {}).get("number") == 2)
        await again
        await carries_live(scene)
        assert variables(await scene.deployment())["LOG_LEVEL"] == "info"
        assert len(applies(recorder)) == known + 1
        assert in_sync(scene)

    async def against():
        recorder = Recorder()
        scene = await serving(ground, recorder)
        theirs = json.loads(ranker(scene, {"name": "MODEL_DIGEST", "value": FOREIGN}))
        known = len(applies(recorder))
        await reapply(scene, theirs, force=True)
        await scene.until(in_conflict)
        assert "argocd-controller" in condition(scene.told, "TargetsInSync")["message"]
        assert variables(await scene.deployment())["MODEL_DIGEST"] == FOREIGN
        assert len(applies(recorder)) == known
        assert scene.told["live"]["number"] == 1

    await asyncio.gather(beside(), against())
