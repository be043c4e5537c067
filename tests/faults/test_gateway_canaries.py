"""A canary by Gateway with a real API server: its weights, its Service, and crashes at its writes.

An operator that ends before or after any write leaves the same route: no request for a canary whose
pods are gone, and the owner's weights at the end.
"""

import asyncio
import contextlib

import pytest
from cluster.routes import route
from faults.copying import Snapshot
from faults.crashing import crash_at_writes, crash_during
from faults.playing import Recorder
from faults.routed_scenes import (
    SIDE_BY_SIDE,
    Witness,
    is_gone,
    is_over,
    make_canary_pods,
    on_generation_one,
    pause,
    problems,
    restored,
    routed,
    soon,
    state,
    weigh,
    weight_returned,
    weights,
)

from springtide_operator.cluster.api.kinds import HTTP_ROUTE, SERVICE
from springtide_operator.cluster.watching import optional_kind

pytestmark = pytest.mark.apiserver

fixtures = routed, soon

SAMPLE = 21
"""Every so many of the crashes are tried in each run of the tests."""


async def promoted(scene):
    """The canary passes its steps."""
    await scene.ask("run@2")
    await scene.until(lambda _: is_over(scene, "Live", 2))


async def aborted(scene):
    """A user requests a rollback during the first step."""
    await scene.ask("run@2")
    await scene.until(lambda _: state(scene).get("weightSeenAt"))
    await scene.ask("rollback.g2@3")
    await scene.until(lambda _: is_over(scene, "RolledBack", 1))


async def returned_in_a_hold(scene):
    """All canary pods crash while the target is paused; once both are over, the steps go on."""
    await scene.ask("run@2")
    await scene.until(lambda _: state(scene).get("weightSeenAt"))
    await pause(scene, paused=True)
    await scene.until(lambda _: state(scene).get("heldSince"))
    await make_canary_pods(scene, ready=False)
    await weight_returned(scene)
    await pause(scene, paused=False)
    await make_canary_pods(scene, ready=True)
    await scene.until(lambda _: is_over(scene, "Live", 2))


async def returned_in_a_step(scene):
    """All canary pods crash, are back with the weight of the step, and a user ends the canary."""
    await scene.ask("run@2")
    await scene.until(lambda _: state(scene).get("weightSeenAt"))
    await make_canary_pods(scene, ready=False)
    await weight_returned(scene)
    await make_canary_pods(scene, ready=True)
    await scene.until(lambda _: state(scene).get("weightSeenAt"))
    await scene.ask("rollback.g2@3")
    await scene.until(lambda _: is_over(scene, "RolledBack", 1))


@pytest.mark.survives(
    "Routes",
    "a canary by Gateway passes its steps on the API server",
    "each step writes its weights; at the end the owner's are back before the canary is deleted",
)
async def test_a_canary_gets_the_weight_of_each_step_and_none_before_its_pods_go(routed):
    scene = await on_generation_one(routed)
    witness = Witness(scene.client, scene.namespace)
    scene.operators[-1].client.write_hooks.append(witness)
    await scene.ask("run@2")
    await scene.until(lambda _: state(scene).get("weightSeenAt"))
    canary = await scene.deployment("ranker-canary")
    labels = canary["spec"]["template"]["metadata"]["labels"]
    assert "app" not in labels
    assert canary["spec"]["selector"] == {"matchLabels": {"springtide.dev/canary": "ranker-canary"}}
    made = await scene.client.get(SERVICE, scene.namespace, "ranker-canary")
    assert made["spec"]["selector"].items() <= labels.items()
    await scene.until(lambda _: is_over(scene, "Live", 2))
    assert witness.weights == [(90, 10), (50, 50), (100, 0)]
    assert witness.at_deletion == [(100, 0)]
    assert await problems(scene, live=2) == []


async def test_a_rollback_during_a_step_restores_the_weights_before_the_pods_go(routed):
    scene = await on_generation_one(routed)
    witness = Witness(scene.client, scene.namespace)
    scene.operators[-1].client.write_hooks.append(witness)
    await aborted(scene)
    assert (witness.weights, witness.at_deletion) == ([(90, 10), (100, 0)], [(100, 0)])
    assert await problems(scene, live=1) == []


@pytest.mark.survives(
    "Routes",
    "a GitOps tool sets the weights of an HTTPRoute back during a step, and again every second",
    "the step holds with FieldConflict, nothing is overwritten, and it continues with the weights "
    "of the message",
)
async def test_weights_that_git_sets_back_hold_the_step(routed):
    scene = await on_generation_one(routed)
    witness = Witness(scene.client, scene.namespace)
    scene.operators[-1].client.write_hooks.append(witness)
    await scene.ask("run@2")
    await scene.until(lambda _: state(scene).get("weightSeenAt"))
    async with kept_at_rest(scene):
        message = "changed by argocd; the step continues once they are 90 and 10 again"
        await scene.until(lambda _: message in scene.update_status["progress"]["waitingFor"])
        assert state(scene).get("heldSince")
        await asyncio.sleep(4)
        assert await weights(scene.client, scene.namespace) == (100, 0)
        assert witness.weights == [(90, 10)]
    await weigh(scene, 90, 10)
    await scene.until(lambda _: is_over(scene, "Live", 2))
    assert await problems(scene, live=2) == []


@contextlib.asynccontextmanager
async def kept_at_rest(scene):
    """A GitOps client applies the weights of Git every second."""

    async def sync():
        while True:
            await weigh(scene, 100, 0)
            await asyncio.sleep(1)

    syncing = asyncio.create_task(sync())
    yield
    syncing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await syncing


@pytest.mark.survives(
    "Routes",
    "the CRD of HTTPRoutes, and with it the route, is deleted during a step, and both are "
    "created again",
    "the step holds with the reason and its pods stay; it continues with the weights of the "
    "message, without a restart of the operator",
)
async def test_a_step_holds_while_the_kind_of_its_route_is_not_installed(
    routed, kinds, route_kind, monkeypatch
):
    monkeypatch.setattr(optional_kind, "STARTING_SECONDS", 0.2)
    monkeypatch.setattr(optional_kind, "UNAVAILABLE_SECONDS", 1.0)
    scene = await on_generation_one(routed)
    await scene.ask("run@2")
    await scene.until(lambda _: state(scene).get("weightSeenAt"))
    crd = f"{HTTP_ROUTE.plural}.{HTTP_ROUTE.group}"
    await asyncio.to_thread(kinds.kubectl, "delete", "crd", crd)
    await scene.until(lambda _: "does not serve httproutes" in waiting_for(scene))
    assert state(scene).get("heldSince")
    assert not await is_gone(scene)
    await asyncio.to_thread(kinds.kubectl, "apply", "--server-side", "-f", str(route_kind))
    await asyncio.to_thread(kinds.wait_for_crds)
    await scene.until(lambda _: "HTTPRoute shop does not exist" in waiting_for(scene))
    await scene.client.create(HTTP_ROUTE, route(scene.namespace))
    await scene.until(lambda _: "90 and 10" in waiting_for(scene))
    await weigh(scene, 90, 10)
    await scene.until(lambda _: is_over(scene, "Live", 2))
    assert await problems(scene, live=2) == []


def waiting_for(scene):
    return (scene.update_status.get("progress") or {}).get("waitingFor", "")


@pytest.mark.survives(
    "Routes",
    "all pods of a canary crash on the API server, in a step or in a hold",
    "the first write after it is the status, the next the weight; it is back with the pods",
)
@pytest.mark.parametrize("how", ["step", "hold"])
async def test_a_canary_without_pods_loses_its_weight_and_gets_it_back_with_them(routed, how):
    scene = await on_generation_one(routed)
    witness = Witness(scene.client, scene.namespace)
    scene.operators[-1].client.write_hooks.append(witness)
    if how == "step":
        await returned_in_a_step(scene)
        assert witness.weights == [(90, 10), (100, 0), (90, 10), (100, 0)]
    else:
        await returned_in_a_hold(scene)
        assert witness.weights == [(90, 10), (100, 0), (90, 10), (50, 50), (100, 0)]
    assert witness.at_deletion == [(100, 0)]
    assert await problems(scene, live=1 if how == "step" else 2) == []


GOING_ON = {
    "promoted": (promoted, 2),
    "aborted": (aborted, 1),
    "returned in a hold": (returned_in_a_hold, 2),
    "returned in a step": (returned_in_a_step, 1),
}
IN_EACH_RUN = ("returned in a hold", "returned in a step")
"""They pass all steps, or end in one: the others write nothing that these do not."""


async def crash_at(routed, how, every):
    going_on, live = GOING_ON[how]
    recorder = Recorder()
    scene = await on_generation_one(routed, recorder)
    snapshot = await Snapshot.of(scene)
    before = len(recorder.writes)
    await going_on(scene)
    assert await problems(scene, live=live) == []

    async def disturbed(crash):
        scene = await restored(routed, snapshot)
        witness = Witness(scene.client, scene.namespace)
        await crash_during(scene, crash, going_on(scene), witness)
        return [*await problems(scene, live=live), *witness.problems()]

    numbers = range(1, len(recorder.writes) - before + 1)
    return await crash_at_writes(numbers, disturbed, every=every, side_by_side=SIDE_BY_SIDE)


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes during a canary by Gateway; tested at some writes",
    "the next operator continues; the owner's weights are back before canary pods go",
)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", IN_EACH_RUN)
async def test_a_crash_at_some_writes_changes_nothing(routed, how):
    assert await crash_at(routed, how, SAMPLE) == {}


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes during a canary by Gateway; tested at every write",
    "the next operator continues; the owner's weights are back before canary pods go",
)
@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how", GOING_ON)
async def test_a_crash_at_every_write_changes_nothing(routed, how):
    assert await crash_at(routed, how, 1) == {}
