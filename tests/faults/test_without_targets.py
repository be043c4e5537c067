"""An update without targets on the API server: its lineage survives an operator that ends."""

import asyncio

import pytest
from faults.crashing import crash_at_writes_of
from faults.directing import condition
from faults.life import IDENTITY, LIFE, play
from lifecycle.declared import WITHOUT_TARGETS

from springtide_operator.cluster.api.kinds import UPDATE

pytestmark = pytest.mark.apiserver

SIDE_BY_SIDE = 12
SAMPLE = 15
"""Every so many of the crashes are tried in each run of the tests."""
DECLARED = {key: WITHOUT_TARGETS[key] for key in ("model", "gate", "rollout")}


async def adapted_once(ground, *hooks):
    """Generation 1 is live."""
    scene = await ground.scene()
    await scene.declare_update(**DECLARED, data=WITHOUT_TARGETS["data"] | IDENTITY)
    await scene.start(*hooks)
    await play(scene, LIFE[:2])
    return scene


async def forth_and_back(scene):
    """Adapt generation 1 to another month, and roll the result back."""
    await play(scene, LIFE[2:3])
    await scene.ask("rollback.g2@3")
    await scene.until(lambda _: scene.generation(2).get("outcome") == "RolledBack")
    await scene.until(lambda _: not (problems(scene) or scene.jobs()))


def problems(scene):
    """What is not as it must be at the end."""
    status = scene.update_status
    update = scene.ground.cache.get(UPDATE, scene.namespace, "shop")
    trained = [raw for raw in scene.started.values() if scene.stage(raw) == "train"]
    checks = {
        "outcomes": [scene.generation(n).get("outcome") for n in (1, 2)] == ["Live", "RolledBack"],
        "cursor": status["cursor"].get("trainedThrough") == scene.generation(1)["trainedThrough"],
        "counters": (status["counters"]["promoted"], status["counters"]["rolledBack"]) == (2, 1),
        "jobs": len(trained) == 2,
        "finalizers": not update["metadata"].get("finalizers"),
    }
    return [name for name, holds in checks.items() if not holds]


async def test_kubectl_shows_the_live_generation_and_where_its_weights_are(ground, kinds):
    scene = await adapted_once(ground)
    shown = await asyncio.to_thread(kinds.kubectl, "get", "iu", "-n", scene.namespace)
    headings, row = (line.split("  ") for line in shown.strip().splitlines())
    cells = [[each.strip() for each in line if each.strip()] for line in (headings, row)]
    assert (cells[0][2:4], cells[1][2:4]) == (["READY", "LIVE"], ["True", "1"])
    serving = condition(scene.update_status, "Serving")
    assert (serving["status"], serving["reason"]) == ("Unknown", "NoTargets")
    assert scene.generation(1)["artifact"]["uri"] in serving["message"]
    in_sync = condition(scene.update_status, "TargetsInSync")
    assert (in_sync["status"], in_sync["reason"]) == ("True", "NoTargets")


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes while an update without targets promotes a "
    "generation and rolls it back; tested at some writes",
    "the next operator continues: one Job for each attempt, and the lineage is the same",
)
@pytest.mark.timeout(900)
async def test_a_crash_at_some_writes_changes_no_lineage(ground):
    await crash_at(ground, SAMPLE)


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes while an update without targets promotes a "
    "generation and rolls it back; tested at every write",
    "the next operator continues: one Job for each attempt, and the lineage is the same",
)
@pytest.mark.faults
@pytest.mark.timeout(3600)
async def test_a_crash_at_every_write_changes_no_lineage(ground):
    await crash_at(ground, 1)


async def crash_at(ground, every):
    found = await crash_at_writes_of(
        lambda *hooks: adapted_once(ground, *hooks),
        forth_and_back,
        problems,
        every=every,
        side_by_side=SIDE_BY_SIDE,
    )
    assert found == {}
