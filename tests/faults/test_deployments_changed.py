"""A user sets one of our variables: the value stays, and rollouts hold until it is removed."""

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
from lifecycle.declared import SPEC

from springtide_operator.cluster.api.kinds import DEPLOYMENT

pytestmark = pytest.mark.apiserver

FOREIGN = "sha256:" + "0" * 64
REAPPLIES = 8
EVERY_SECONDS = 1.0


def in_conflict(scene):
    return condition(scene.update_status, "TargetsInSync").get("reason") == "FieldConflict"


def in_sync(scene):
    return condition(scene.update_status, "TargetsInSync").get("status") == "True"


@pytest.mark.survives(
    "Deployments",
    "`kubectl set env` sets our variable",
    "`FieldConflict` names kubectl; the value stays, the live generation stays, no run is "
    "rolled out; once the variables are removed they are applied again",
)
@pytest.mark.survives(
    "Deployments",
    "`kubectl rollout undo` returns to the model before",
    "`FieldConflict` names kubectl; that model stays; once the variables are removed the live "
    "generation is applied again",
)
async def test_a_value_set_by_a_user_stays_until_it_is_removed(ground, kinds):
    async def set_env():
        recorder = Recorder()
        scene = await serving(ground, recorder)
        place = ("-n", scene.namespace)
        await run(kinds, "set", "env", "deployment/ranker", f"MODEL_DIGEST={FOREIGN}", *place)
        await scene.until(in_conflict)
        assert "kubectl" in condition(scene.update_status, "TargetsInSync")["message"]
        known = len(applies(recorder))
        scene.world.months.append("2025-03")
        await scene.ask("run@2")
        await asyncio.sleep(6)
        assert variables(await scene.deployment())["MODEL_DIGEST"] == FOREIGN
        assert len(applies(recorder)) == known
        assert scene.update_status["live"]["number"] == 1
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
        await scene.until(lambda scene: (scene.update_status.get("live") or {}).get("number") == 2)
        await remember_revision(scene, 2)
        await run(kinds, "rollout", "undo", "deployment/ranker", "--to-revision=1", *place)
        assert variables(await scene.deployment()) == older
        await scene.until(in_conflict)
        assert "kubectl" in condition(scene.update_status, "TargetsInSync")["message"]
        await asyncio.sleep(3)
        assert variables(await scene.deployment()) == older
        assert scene.update_status["live"]["number"] == 2
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
    "both keep their fields: no write of ours, and a rollout meanwhile succeeds",
)
@pytest.mark.survives(
    "Deployments",
    "Argo CD applies a manifest that sets our variable every second, with force",
    "`FieldConflict` names it; its value stays and is not overwritten, the live generation stays",
)
async def test_a_field_manager_that_applies_repeatedly_is_not_overwritten(ground):
    async def beside():
        recorder = Recorder()
        scene = await serving(ground, recorder)
        known = len(applies(recorder))
        theirs = json.loads(ranker(scene, {"name": "LOG_LEVEL", "value": "info"}))
        again = asyncio.create_task(reapply(scene, theirs, force=False))
        scene.world.months.append("2025-03")
        await scene.ask("run@2")
        await scene.until(lambda scene: (scene.update_status.get("live") or {}).get("number") == 2)
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
        assert "argocd-controller" in condition(scene.update_status, "TargetsInSync")["message"]
        assert variables(await scene.deployment())["MODEL_DIGEST"] == FOREIGN
        assert len(applies(recorder)) == known
        assert scene.update_status["live"]["number"] == 1

    await asyncio.gather(beside(), against())


def image(deployment):
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return container["image"]


@pytest.mark.survives(
    "Deployments",
    "a user changes the image and an autoscaler the replicas while a generation rolls out",
    "the replicas do not matter; for the image `FieldConflict` names the user's client and the "
    "rollout holds, past its deadline; the new image stays, and the generation is promoted "
    "once all pods are available",
)
@pytest.mark.survives(
    "Deployments",
    "a user changes the image while a generation is rolled back",
    "the rollback sets only our own fields: the live generation is served again, with the new "
    "image",
)
async def test_an_image_set_by_a_user_holds_the_rollout_and_is_never_overwritten(ground, kinds):
    async def rolling():
        recorder = Recorder()
        rollout = {**SPEC["rollout"], "deadline": "10s"}
        scene = await serving(ground, recorder, rollout=rollout)
        scene.pods_ready = False
        scene.world.months.append("2025-03")
        await scene.ask("run@2")
        before = len(applies(recorder))
        await scene.until(lambda scene: len(applies(recorder)) > before)
        return scene, recorder

    async def set_image(scene, name):
        place = ("-n", scene.namespace)
        await run(kinds, "set", "image", "deployment/ranker", f"server={name}", *place)

    async def forwards():
        scene, recorder = await rolling()
        place = ("-n", scene.namespace)
        await run(kinds, "scale", "deployment/ranker", "--replicas=3", *place)
        await set_image(scene, "server:2")
        await scene.until(in_conflict)
        message = condition(scene.update_status, "TargetsInSync")["message"]
        assert "its pod template was changed by kubectl-set while shop-g2 rolls out" in message
        written = len(applies(recorder))
        await asyncio.sleep(12)
        rollout = scene.generation(2)["rollout"]
        assert (rollout.get("rollbackReason"), rollout.get("promotedAt")) == ("", None)
        assert (in_conflict(scene), len(applies(recorder))) == (True, written)
        await scene.make_ready()
        await scene.until(lambda scene: (scene.update_status.get("live") or {}).get("number") == 2)
        await scene.until(in_sync)
        assert image(await scene.deployment()) == "server:2"
        assert len(applies(recorder)) == written

    async def backwards():
        scene, _ = await rolling()
        await scene.until(lambda scene: scene.generation(2)["rollout"]["rollbackReason"])
        await set_image(scene, "server:2")
        await carries_live(scene)
        await scene.make_ready()
        await scene.until(lambda scene: scene.generation(2)["rollout"].get("rolledBackAt"))
        assert image(await scene.deployment()) == "server:2"
        assert scene.update_status["live"]["number"] == 1
        await scene.until(in_sync)

    await asyncio.gather(forwards(), backwards())
