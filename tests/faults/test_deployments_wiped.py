"""Another client's apply or replace removes our fields: applied again, but not without limit."""

import asyncio

import pytest
from faults.directing import condition
from faults.owner import BACK, applies, carries_live, ranker, run, serving, variables
from faults.playing import Recorder
from lifecycle.declared import SPEC

from springtide_operator.cluster.api.kinds import DEPLOYMENT

pytestmark = pytest.mark.apiserver


@pytest.mark.survives(
    "Deployments",
    "a client-side `kubectl apply` of the manifest without our variables",
    "our variables stay: nothing is applied again, no pod restarts",
)
@pytest.mark.survives(
    "Deployments",
    "a manifest adds our variables and drops them again, by client-side `kubectl apply`",
    "nothing changes while the values are the same; applied again within a minute once they "
    "are gone",
)
@pytest.mark.survives(
    "Deployments",
    "`kubectl replace` removes all our fields, repeatedly",
    "applied again three times an hour; then `FieldsRemoved` says what to look for, and "
    "nothing is applied",
)
@pytest.mark.survives(
    "Deployments",
    "`kubectl replace` removes all our fields during a rollout, repeatedly",
    "applied again three times an hour, then the rollout holds and reports it; the deadline "
    "does not run, and the generation does not fail for it",
)
@pytest.mark.survives(
    "Deployments",
    "the Deployment is deleted and created again from its manifest",
    "never created by the operator; `TargetNotFound` names it, and the new one gets the live "
    "generation",
)
async def test_removed_fields_are_reapplied_three_times_an_hour_then_reported(ground, kinds):
    await asyncio.gather(
        an_apply_without_our_variables_changes_nothing(ground, kinds),
        variables_that_a_manifest_drops_are_put_back(ground, kinds),
        fields_that_are_replaced_away_are_put_back_three_times(ground, kinds),
        a_roll_does_not_fight_who_replaces_the_deployment(ground, kinds),
        a_deployment_that_is_made_again_gets_what_is_live(ground, kinds),
    )


async def an_apply_without_our_variables_changes_nothing(ground, kinds):
    recorder = Recorder()
    scene = await serving(ground, recorder)
    before, known = (await scene.deployment())["spec"], len(applies(recorder))
    await run(kinds, "apply", "-f", "-", input=ranker(scene))
    await asyncio.sleep(5)
    assert (await scene.deployment())["spec"] == before
    assert len(applies(recorder)) == known


async def variables_that_a_manifest_drops_are_put_back(ground, kinds):
    recorder = Recorder()
    scene = await serving(ground, recorder)
    known = len(applies(recorder))
    served = variables(await scene.deployment())
    same = [{"name": name, "value": value} for name, value in served.items()]
    await run(kinds, "apply", "-f", "-", input=ranker(scene, *same))
    assert variables(await scene.deployment()) == served
    assert len(applies(recorder)) == known
    await run(kinds, "apply", "-f", "-", input=ranker(scene))
    await carries_live(scene)
    assert len(applies(recorder)) == known + 1
    await scene.until(
        lambda scene: condition(scene.update_status, "TargetsInSync")["status"] == "True"
    )


def fields_wiped(scene):
    return condition(scene.update_status, "TargetsInSync").get("reason") == "FieldsRemoved"


async def fields_that_are_replaced_away_are_put_back_three_times(ground, kinds):
    recorder = Recorder()
    scene = await serving(ground, recorder)
    known = len(applies(recorder))
    for _ in range(3):
        await run(kinds, "replace", "-f", "-", input=ranker(scene))
        await carries_live(scene)
    await run(kinds, "replace", "-f", "-", input=ranker(scene))
    await scene.until(fields_wiped, BACK)
    assert "managed-fields" in condition(scene.update_status, "TargetsInSync")["message"]
    await asyncio.sleep(5)
    assert len(applies(recorder)) == known + 3
    assert scene.update_status["live"]["number"] == 1


async def a_roll_does_not_fight_who_replaces_the_deployment(ground, kinds):
    recorder = Recorder()
    scene = await serving(ground, recorder, rollout={**SPEC["rollout"], "deadline": "30s"})
    scene.pods_ready = False
    scene.world.months.append("2025-03")
    await scene.ask("run@2")
    await scene.until(lambda scene: len(scene.templates) == 2)
    known = len(applies(recorder))
    for _ in range(6):
        await run(kinds, "replace", "-f", "-", input=ranker(scene))
        await asyncio.sleep(1.5)
    await scene.until(fields_wiped, BACK)
    await scene.until(lambda scene: scene.generation(2)["rollout"].get("heldSince"), BACK)
    assert condition(scene.update_status, "ActionRequired")["reason"] == "FieldsRemoved"
    await asyncio.sleep(30)
    assert not scene.generation(2)["rollout"].get("rollbackReason")
    assert len(applies(recorder)) == known + 3
    assert scene.update_status["live"]["number"] == 1


async def a_deployment_that_is_made_again_gets_what_is_live(ground, kinds):
    scene = await serving(ground)
    place = ("-n", scene.namespace)
    uid = (await scene.deployment())["metadata"]["uid"]
    await run(kinds, "delete", "deployment", "ranker", *place)
    await scene.until(
        lambda scene: condition(scene.update_status, "Stalled").get("reason") == "TargetNotFound",
        BACK,
    )
    assert (
        "Deployment ranker does not exist" in condition(scene.update_status, "Stalled")["message"]
    )
    await asyncio.sleep(3)
    assert (await scene.client.list_all(DEPLOYMENT, scene.namespace)).items == []
    await run(kinds, "create", "-f", "-", input=ranker(scene))
    await carries_live(scene)
    deployment = await scene.deployment()
    assert deployment["metadata"]["uid"] != uid
    assert deployment["metadata"]["labels"]["springtide.dev/update"] == "shop"
    await scene.until(lambda scene: not condition(scene.update_status, "Stalled"))
