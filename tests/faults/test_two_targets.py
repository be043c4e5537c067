"""Two targets of one canary, of which one cannot start, with a real API server.

Both move or none does. What failed for no fault of the generation is rolled out again by request,
on both; after its rollback the rows that it was trained on are left out, where the spec says so.
"""

import pytest
from faults.directing import directed
from faults.life import LIFE, play
from faults.owner import variables
from lifecycle.declared import SPEC

from springtide_operator.cluster.api.kinds import DEPLOYMENT, GENERATION

pytestmark = pytest.mark.apiserver

NAMES = "ranker", "reranker"
STEPS = [{"weight": 33, "duration": "10s"}]
ROLLOUT = {
    **SPEC["rollout"],
    "targets": [{"targetRef": {"name": name}, "container": "server"} for name in NAMES],
    "strategy": {"type": "Canary", "canary": {"steps": STEPS}},
    "rollback": {"quarantineWindow": True},
}
QUOTA = 'pods "reranker-canary-x" is forbidden: exceeded quota: team, requested: pods=1'


async def on_generation_one(ground):
    """Generation 1 is live on both targets; canary pods of the second are refused."""
    scene = await directed(ground)
    for name in NAMES:
        await scene.declare_deployment(name)
    await scene.declare_update(rollout=ROLLOUT)
    await scene.start()
    await play(scene, LIFE[:2])
    scene.unready.add("reranker-canary")
    scene.world.months.append("2025-03")
    return scene


def watched(scene, name):
    return scene.ground.cache.get(DEPLOYMENT, scene.namespace, name)


async def refuse_pods(scene):
    """A quota refuses every pod of the second canary."""
    await scene.until(lambda _: all(watched(scene, f"{name}-canary") for name in NAMES))
    raw = await scene.deployment("reranker-canary")
    failure = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
    status = {"observedGeneration": raw["metadata"]["generation"], "unavailableReplicas": 1}
    await scene.status(DEPLOYMENT, raw, {**status, "conditions": [{**failure, "message": QUOTA}]})


def of(scene, number):
    return scene.generation(number).get("rollout") or {}


def served(scene):
    """The number of the generation that each target has; None: another value."""
    numbers = {
        scene.generation(number)["artifact"]["servedDigest"]: number
        for number in (1, 2)
        if scene.generation(number).get("artifact")
    }
    return [numbers.get(variables(watched(scene, name)).get("MODEL_DIGEST")) for name in NAMES]


def is_over(scene, outcome, live):
    """Whether generation 2 has this outcome, and no canary is left."""
    ended = scene.generation(2).get("outcome") == outcome
    left = [name for name in NAMES if watched(scene, f"{name}-canary")]
    return ended and not left and scene.update_status["live"]["number"] == live


@pytest.mark.survives(
    "Deployments",
    "a quota refuses the canary pods of one of two targets on the API server",
    "no step begins, and at the deadline both canaries go: `RolloutFailed`, no target changed; "
    "`retry.g<number>` rolls it out to both",
)
@pytest.mark.survives(
    "People",
    "a generation is rolled back by request on the API server, with `rollback.quarantineWindow`",
    "its window is quarantined at once, and the next run is trained without it",
)
async def test_two_targets_move_together_or_not_at_all(ground):
    scene = await on_generation_one(ground)
    before = [watched(scene, name)["metadata"]["generation"] for name in NAMES]
    await scene.merge({"rollout": {"deadline": "10s"}})
    await scene.ask("run@2")
    await refuse_pods(scene)
    await scene.until(
        lambda _: is_over(scene, "RolloutFailed", 1) or of(scene, 2).get("weightSeenAt")
    )
    assert is_over(scene, "RolloutFailed", 1)
    assert of(scene, 2)["failure"] == "QuotaExceeded"
    assert [watched(scene, name)["metadata"]["generation"] for name in NAMES] == before
    assert served(scene) == [1, 1]

    scene.unready.clear()
    await scene.merge({"rollout": {"deadline": "10m"}})
    await scene.ask("retry.g2@3")
    await scene.until(lambda _: is_over(scene, "Live", 2))
    assert served(scene) == [2, 2]
    (attempt,) = of(scene, 2)["attempts"]
    assert attempt["outcome"] == "RolloutFailed"
    assert "exceeded quota: team" in attempt["reason"]
    assert attempt["startedAt"] < attempt["endedAt"] <= of(scene, 2)["stepStartedAt"]

    window = scene.ground.cache.get(GENERATION, scene.namespace, "shop-g2")["spec"]["data"]
    await scene.ask("rollback.g2@4")
    await scene.until(lambda _: is_over(scene, "RolledBack", 1))
    assert served(scene) == [1, 1]
    await scene.until(lambda _: scene.update_status["cursor"].get("quarantined"))
    assert scene.update_status["cursor"]["quarantined"] == window["partitions"]
    scene.world.months.append("2025-04")
    await scene.ask("run@5")
    await scene.until(lambda _: scene.generation(3).get("outcome") == "Live")
    third = scene.ground.cache.get(GENERATION, scene.namespace, "shop-g3")["spec"]["data"]
    assert not {*window["partitions"]} & {*third["partitions"]}
