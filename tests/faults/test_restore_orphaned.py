"""Updates deleted with Orphan and applied again from Git: new uids, the same generations.

In whichever state the update was, the served model stays and its numbers continue.
"""

import asyncio

import pytest
from faults.directing import directed, manifest
from faults.life import LIFE, play
from patience import within

from springtide_operator.cluster.api.kinds import GENERATION

pytestmark = pytest.mark.apiserver

ADOPTED = 30


async def restored(kinds, scene, **annotations):
    """Delete the update, leave what belongs to it, and apply it again as Git has it."""
    written = manifest(await scene.update(), **annotations)
    place = ("-n", scene.namespace)
    await asyncio.to_thread(
        kinds.kubectl, "delete", "iu", "shop", "--cascade=orphan", "--wait=false", *place
    )
    await scene.orphan()
    await scene.gone()
    await asyncio.to_thread(kinds.kubectl, "apply", "-f", "-", *place, input=written)
    await scene.until(lambda scene: scene.update_status.get("phase"), ADOPTED)


async def production(scene):
    """What pods run: the template and the changes of it."""
    deployment = await scene.deployment()
    return deployment["spec"]["template"], list(scene.templates)


async def uids(scene):
    """To which update each generation belongs, by its label."""
    listed = (await scene.client.list_all(GENERATION, scene.namespace)).items
    return {raw["metadata"]["labels"]["springtide.dev/update-uid"] for raw in listed}


def live(scene):
    return (scene.update_status.get("live") or {}).get("number")


@pytest.mark.survives(
    "People",
    "every update is deleted with its generations kept, and applied again from Git, at rest",
    "adopted with live generation, cursor and history; no Deployment changes, no run starts, "
    "numbers continue",
)
@pytest.mark.survives(
    "People",
    "a manifest restored from Git still has an old request",
    "the request is recorded in status and not run",
)
async def test_a_restored_update_at_rest_continues_with_the_same_live_generation(ground, kinds):
    scene = await directed(ground)
    await scene.declare()
    await scene.start()
    await play(scene, LIFE[:4])
    before, status = await production(scene), scene.update_status
    probes = len(scene.runs("probe"))
    await restored(kinds, scene, **{"springtide.dev/request": "run@3"})
    await scene.until(lambda scene: live(scene) == 2 and scene.update_status["phase"] == "Idle")
    uid = (await scene.update())["metadata"]["uid"]

    async with within(ADOPTED):
        while await uids(scene) != {uid}:
            await asyncio.sleep(0.1)
    await scene.until(lambda scene: scene.update_status.get("lastRequest"))
    assert scene.update_status["lastRequest"]["result"] == "Recorded"
    assert await production(scene) == before
    assert len(scene.runs("probe")) == probes
    for kept in ("live", "previous", "history", "lastRun"):
        assert scene.update_status[kept] == status[kept]
    assert scene.update_status["cursor"]["trainedThrough"] == status["cursor"]["trainedThrough"]

    scene.world.months.append("2025-05")
    await scene.ask("run@4")
    await scene.until(lambda scene: live(scene) == 4)
    generation = await scene.client.get(GENERATION, scene.namespace, "shop-g4")
    assert generation["spec"]["parent"]["name"] == "shop-g2"


@pytest.mark.survives(
    "People",
    "deleted and restored while the first model is imported",
    "the import without an owner is given up and repeated",
)
@pytest.mark.survives(
    "People",
    "deleted and restored during training",
    "the run is Failed and does not count as evaluated: the same rows are trained on under the "
    "next number; the live generation stays",
)
async def test_a_run_interrupted_by_a_restore_is_given_up_and_its_rows_are_not_lost(ground, kinds):
    async def importing():
        scene = await directed(ground, held=["import"])
        await scene.declare()
        await scene.start()
        await scene.job("import")
        await restored(kinds, scene)
        await scene.until(lambda scene: scene.generation(0).get("reason") == "Orphaned")
        await scene.until(lambda scene: len(scene.runs("import")) == 2)
        await scene.release()
        await scene.until(lambda scene: scene.generation(1).get("verdict") == "Imported")
        await scene.until(lambda scene: scene.update_status["phase"] == "Idle")

    async def training():
        scene = await directed(ground)
        await scene.declare()
        await scene.start()
        await play(scene, LIFE[:2])
        before = await production(scene)
        scene.held.add("train")
        scene.world.months.append("2025-03")
        await scene.ask("run@2")
        await scene.until(lambda scene: scene.generation(2).get("training"))
        await restored(kinds, scene)
        await scene.until(lambda scene: scene.generation(2).get("verdict") == "Failed")
        assert scene.generation(2)["reason"] == "Orphaned"
        assert await production(scene) == before
        scene.held.clear()
        await scene.ask("run@3")
        await scene.until(lambda scene: live(scene) == 3)
        data = [
            (await scene.client.get(GENERATION, scene.namespace, name))["spec"]["data"]["digest"]
            for name in ("shop-g2", "shop-g3")
        ]
        assert data[0] == data[1]
        assert scene.generation(2)["verdict"] == "Failed"

    await asyncio.gather(importing(), training())


@pytest.mark.survives(
    "People",
    "deleted during a rollout, and restored",
    "the rollout is rolled back before the update is gone; the restored update keeps the live "
    "generation",
)
@pytest.mark.survives(
    "People",
    "its finalizer removed manually during a rollout, deleted and restored",
    "the rollout ends under the deadline that was recorded when it started",
)
async def test_a_restore_during_a_rollout_ends_with_one_evaluated_model(ground, kinds):
    async def rolling():
        scene = await directed(ground)
        await scene.declare()
        await scene.start()
        await play(scene, LIFE[:2])
        served = (await production(scene))[0]
        scene.pods_ready = False
        scene.world.months.append("2025-03")
        await scene.ask("run@2")
        await scene.until(lambda scene: len(scene.templates) == 2)
        return scene, served

    async def in_order():
        scene, served = await rolling()
        await restored(kinds, scene)
        await scene.make_ready()
        await scene.until(lambda scene: live(scene) == 1 and scene.update_status["phase"] == "Idle")
        assert (await production(scene))[0] == served
        assert scene.generation(2)["rollout"]["rollbackReason"]
        assert "promotedAt" not in scene.generation(2)["rollout"]

    async def by_force():
        scene, _ = await rolling()
        deadline = scene.generation(2)["rollout"]["deadline"]
        await scene.drop()
        await scene.strip()
        written = manifest(await scene.update())
        await scene.start()
        kinds.kubectl("delete", "iu", "shop", "--wait=false", "-n", scene.namespace)
        await scene.gone()
        kinds.kubectl("apply", "-f", "-", input=written)
        await scene.until(lambda scene: scene.update_status.get("phase") == "RollingOut", ADOPTED)
        assert scene.generation(2)["rollout"]["deadline"] == deadline
        assert live(scene) == 1
        await scene.make_ready()
        await scene.until(lambda scene: live(scene) == 2 and scene.update_status["phase"] == "Idle")
        assert scene.generation(2)["rollout"]["deadline"] == deadline
        assert len(scene.templates) == 2

    await asyncio.gather(in_order(), by_force())


@pytest.mark.survives(
    "People",
    "deleted and restored while a candidate with a suspect holdout is on hold",
    "still on hold, with the same partitions proposed; a quarantine then continues without "
    "training again",
)
async def test_a_hold_outlives_a_restore(ground, kinds):
    scene = await directed(ground)
    await scene.declare()
    await scene.start()
    await play(scene, LIFE[:5])
    before = await production(scene)
    trained = len(scene.runs("train"))
    await restored(kinds, scene)
    await scene.until(lambda scene: scene.update_status["phase"] == "OnHold")
    assert scene.update_status["cursor"]["proposedForQuarantine"] == ["2025-05"]
    assert scene.update_status["candidate"]["number"] == 4
    assert await production(scene) == before
    await play(scene, LIFE[5:])
    assert len(scene.runs("train")) == trained
    assert scene.update_status["cursor"]["quarantined"] == ["2025-05", "2025-06"]
