"""Pods that are kept warm in a bake, with a real API server, and crashes at the writes of it.

An operator that ends before or after any write leaves the same objects: the next one continues, and
no request goes to pods that are not there.
"""

import asyncio
from datetime import timedelta

import pytest
from faults.copying import Snapshot
from faults.crashing import crash_at_writes, crash_during
from faults.directing import condition
from faults.playing import Recorder
from faults.routed_scenes import (
    SIDE_BY_SIDE,
    Witness,
    is_over,
    on_generation_one,
    problems,
    restored,
    route_of,
    routed,
    soon,
    state,
    weigh,
)

from springtide_operator.cluster.api.kinds import DEPLOYMENT
from springtide_operator.cluster.reading.live_reader import ENDPOINTS_SECONDS
from springtide_operator.lifecycle.traffic import withdrawal

pytestmark = pytest.mark.apiserver

fixtures = routed, soon

SAMPLE = 17
"""Every so many of the crashes are tried in each run of the tests."""

WARM = {"bake": {"duration": "1h"}, "rollback": {"keepWarm": True}}


async def with_warm_pods(routed, *hooks):
    """Generation 1 is live; the next one bakes with pods of generation 1 beside it."""
    scene = await on_generation_one(routed, *hooks)
    await scene.merge({"rollout": WARM})
    return scene


def is_warm(scene):
    """Whether as many pods of generation 1 as the target has are available."""
    raw = scene.ground.cache.get(DEPLOYMENT, scene.namespace, "ranker-canary") or {}
    labels = (raw.get("metadata") or {}).get("labels") or {}
    pods = (raw.get("status") or {}).get("availableReplicas")
    return labels.get("springtide.dev/generation") == "1" and pods == 2


def counted(scene):
    """What the metrics say: pods that are kept warm, and how many are lacking."""
    registry = scene.operators[-1].metrics.registry
    names = ("springtide_warm_pods", "springtide_warm_pods_missing")
    labels = {"namespace": scene.namespace, "update": "shop"}
    return tuple(registry.get_sample_value(name, labels) for name in names)


async def bake(scene):
    await scene.ask("run@2")
    await scene.until(is_warm)
    await asyncio.sleep(2 * ENDPOINTS_SECONDS)


async def rolled_back(scene):
    """Generation 2 bakes, then a user requests its rollback; the pods of the target take time."""
    await bake(scene)
    scene.pods_ready = False
    await scene.ask("rollback.g2@3")
    await scene.until(lambda _: route_of(scene).get("shiftedAt"))
    await scene.until(lambda _: serves(scene, 1))
    await scene.make_ready()
    await scene.until(lambda _: is_over(scene, "RolledBack", 1))


def serves(scene, number):
    raw = scene.ground.cache.get(DEPLOYMENT, scene.namespace, "ranker")
    labels = raw["spec"]["template"]["metadata"]["labels"]
    return labels.get("springtide.dev/generation") == str(number)


async def proven(scene):
    """Generation 2 bakes, then a user ends its bake."""
    await bake(scene)
    await scene.ask("promote.g2@3")
    await scene.until(lambda _: is_over(scene, "Live", 2))


async def passed(scene):
    """Generation 2 passes its bake by the time that it takes."""
    await scene.merge({"rollout": {"bake": {"duration": "15s"}}})
    await scene.ask("run@2")
    await scene.until(lambda _: state(scene).get("bakedAt"))
    await scene.until(lambda _: is_over(scene, "Live", 2))


def needs(scene, reason):
    """Whether a user must act for this reason."""
    return condition(scene.update_status, "ActionRequired").get("reason") == reason


async def weighed(scene):
    """Another client gives warm pods weight, and a user ends the bake."""
    await bake(scene)
    await weigh(scene, 60, 40)
    await scene.until(lambda _: needs(scene, "RouteNotAtRest"))
    await scene.ask("promote.g2@3")
    await scene.until(lambda _: is_over(scene, "Live", 2))


@pytest.mark.survives(
    "Routes",
    "a generation that bakes is rolled back on the API server, with pods that are kept warm",
    "the first write after the decision gives them all requests; the weight is back before they go",
)
async def test_a_rollback_gives_warm_pods_all_requests_before_any_deployment_is_written(routed):
    recorder = Recorder()
    scene = await with_warm_pods(routed, recorder)
    witness = Witness(scene.client, scene.namespace)
    scene.operators[-1].client.write_hooks.append(witness)
    await rolled_back(scene)
    assert witness.weights == [(90, 10), (50, 50), (100, 0), (0, 100), (100, 0)]
    assert witness.at_deletion == [(100, 0), (100, 0)]
    written = [path.rpartition(f"/{scene.namespace}/")[2] for _, path in recorder.writes]
    changed = [path for path in written if path.partition("/")[0] in {"httproutes", "deployments"}]
    assert changed[-5:] == [
        "deployments/ranker-canary",
        "httproutes/shop",
        "deployments/ranker",
        "httproutes/shop",
        "deployments/ranker-canary",
    ]
    assert await problems(scene, live=1) == []
    assert route_of(scene)["shiftedAt"] <= route_of(scene)["withdrawnAt"]


async def test_warm_pods_go_with_the_end_of_the_bake(routed):
    scene = await with_warm_pods(routed)
    witness = Witness(scene.client, scene.namespace)
    scene.operators[-1].client.write_hooks.append(witness)
    await bake(scene)
    canary = await scene.deployment("ranker-canary")
    labels = canary["spec"]["template"]["metadata"]["labels"]
    assert "app" not in labels, "no Service of the owner selects them"
    assert labels["springtide.dev/canary"] == "ranker-canary"
    await scene.until(lambda _: counted(scene) == (2, 0))
    await proven(scene)
    await scene.until(lambda _: counted(scene) == (0, 0))
    assert witness.weights == [(90, 10), (50, 50), (100, 0)]
    assert witness.at_deletion == [(100, 0), (100, 0)]
    assert await problems(scene, live=2) == []


async def test_warm_pods_that_another_client_gave_weight_are_drained_before_they_go(
    routed, monkeypatch
):
    monkeypatch.setattr(withdrawal, "DRAIN", timedelta(seconds=4))
    scene = await with_warm_pods(routed)
    witness = Witness(scene.client, scene.namespace)
    scene.operators[-1].client.write_hooks.append(witness)
    await weighed(scene)
    assert witness.weights == [(90, 10), (50, 50), (100, 0), (100, 0)]
    assert witness.at_deletion == [(100, 0), (100, 0)]
    assert witness.drained[-1] > 2
    assert await problems(scene, live=2) == []


GOING_ON = {
    "rolled back": (rolled_back, 1),
    "proven": (proven, 2),
    "passed": (passed, 2),
    "weighed": (weighed, 2),
}
IN_EACH_RUN = ("rolled back", "weighed")
"""The others write nothing that these do not, but for a bake that ends by its time."""


async def crash_at(routed, how, every):
    """Try every so many of the crashes from the promotion on; return what was wrong, by place."""
    going_on, live = GOING_ON[how]
    recorder = Recorder()
    scene = await with_warm_pods(routed, recorder)
    snapshot = await Snapshot.of(scene)
    before = len(recorder.writes)
    living = asyncio.create_task(going_on(scene))
    await scene.until(lambda _: state(scene).get("promotedAt"))
    first = len(recorder.writes) - before
    await living
    assert await problems(scene, live=live) == []

    async def disturbed(crash):
        scene = await restored(routed, snapshot)
        witness = Witness(scene.client, scene.namespace)
        await crash_during(scene, crash, going_on(scene), witness)
        return [*await problems(scene, live=live), *witness.problems()]

    numbers = range(first, len(recorder.writes) - before + 1)
    return await crash_at_writes(numbers, disturbed, every=every, side_by_side=SIDE_BY_SIDE)


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes while pods are kept warm, or in the rollback to "
    "them; tested at some writes",
    "the next operator continues; the owner's weights are back before the pods go",
)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", IN_EACH_RUN)
async def test_a_crash_at_some_writes_changes_nothing(routed, how):
    assert await crash_at(routed, how, SAMPLE) == {}


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes while pods are kept warm, or in the rollback to "
    "them; tested at every write",
    "the next operator continues; the owner's weights are back before the pods go",
)
@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how", GOING_ON)
async def test_a_crash_at_every_write_changes_nothing(routed, how):
    assert await crash_at(routed, how, 1) == {}
