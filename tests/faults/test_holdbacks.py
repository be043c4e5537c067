"""A share of the requests for the previous generation in a bake, with a real API server and a real
Prometheus, and crashes at the writes of it.

An operator that ends before or after any write leaves the same objects: the next one continues from
the evidence in the status, and the owner's weights are back before the pods go.
"""

import asyncio
import contextlib

import pytest
from faults.copying import Snapshot
from faults.crashing import crash_at_writes, crash_during
from faults.playing import Recorder
from faults.routed_scenes import (
    SIDE_BY_SIDE,
    Witness,
    is_over,
    on_generation_one,
    restored,
    routed,
    soon,
    state,
)
from faults.routed_scenes import problems as problems_of_routes
from faults.test_canary_metrics import GOOD, RATIO, requested

pytestmark = [pytest.mark.apiserver, pytest.mark.prometheus]

fixtures = routed, soon

SAMPLE = 25
"""Every so many of the crashes are tried in each run of the tests."""

WORSE = 20, 40
"""Bad and all requests of generation 2 in each moment, once it fails."""


def rollout(prometheus):
    metrics = [{"name": "errors", "ratio": RATIO}]
    analysis = {"interval": "5s", "prometheus": {"address": prometheus.url}, "metrics": metrics}
    return {"bake": {"duration": "10s", "holdback": 20}, "analysis": analysis}


@contextlib.asynccontextmanager
async def with_holdback(routed, prometheus, samples, *hooks):
    """Generation 1 is live; the next one bakes beside it."""
    hosts = frozenset({prometheus.url.removeprefix("http://")})
    scene = await on_generation_one(routed, *hooks, prometheus_hosts=hosts)
    await scene.merge({"rollout": rollout(prometheus)})
    async with requested(samples, scene, dict(GOOD)) as requests:
        yield scene, requests


def has_its_share(scene):
    return state(scene).get("holdbackSeenAt")


async def passes(scene, requests):
    """Generation 2 is as good as generation 1 until its bake ends."""
    await scene.ask("run@2")
    await scene.until(lambda _: is_over(scene, "Live", 2))


async def fails(scene, requests):
    """Generation 2 is as good in its steps alone."""
    await scene.ask("run@2")
    await scene.until(has_its_share)
    requests.rates[2] = WORSE
    await scene.until(lambda _: is_over(scene, "RolledBack", 1))


GOING_ON = {"passes": (passes, 2), "fails": (fails, 1)}


async def problems(scene, requests, how):
    """What is not as it must be at the end."""
    found = await problems_of_routes(scene, live=GOING_ON[how][1])
    (known,) = [c for c in state(scene)["comparisons"] if c["phase"] == "Bake"]
    times = [sample["time"] for sample in state(scene)["analysis"]]
    counted = [
        known["watched"]["total"] + (known.get("watchedBefore") or {}).get("total", 0),
        known["baseline"]["total"] + (known.get("baselineBefore") or {}).get("total", 0),
    ]
    checks = {
        "each sample once": len({*times}) == len(times),
        "no request twice": counted[0] <= requests.counted[2][1],
        "nor of previous": counted[1] <= requests.counted[1][1],
        "reason": how == "passes"
        or "requests of shop-g2 are bad" in state(scene)["rollbackReason"],
    }
    return [*found, *(name for name, holds in checks.items() if not holds)]


@pytest.mark.survives(
    "Routes",
    "`bake.holdback` keeps a share on the previous generation on the API server, and a real "
    "Prometheus counts the requests of both",
    "a generation that is as good passes, one that fails more often is rolled back; the owner's "
    "weights are back before the pods go",
)
@pytest.mark.parametrize("how", GOING_ON)
async def test_previous_has_its_share_in_the_bake_alone(routed, prometheus, samples, how):
    async with with_holdback(routed, prometheus, samples) as (scene, requests):
        witness = Witness(scene.client, scene.namespace)
        scene.operators[-1].client.write_hooks.append(witness)
        await GOING_ON[how][0](scene, requests)
        assert witness.weights == [(90, 10), (50, 50), (100, 0), (80, 20), (100, 0)]
        assert witness.at_deletion == [(100, 0), (100, 0)]
        assert await problems(scene, requests, how) == []


async def crash_at(routed, prometheus, samples, how, every):
    """Try every so many of the crashes from the promotion on; return what was wrong, by place."""
    going_on, _ = GOING_ON[how]
    recorder = Recorder()
    hosts = frozenset({prometheus.url.removeprefix("http://")})
    async with with_holdback(routed, prometheus, samples, recorder) as (scene, requests):
        snapshot = await Snapshot.of(scene)
        before = len(recorder.writes)
        living = asyncio.create_task(going_on(scene, requests))
        await scene.until(lambda _: state(scene).get("promotedAt"))
        first = len(recorder.writes) - before
        await living
        assert await problems(scene, requests, how) == []
    numbers = range(first, len(recorder.writes) - before + 1)

    async def disturbed(crash):
        scene = await restored(routed, snapshot)
        async with requested(samples, scene, dict(GOOD)) as requests:
            living = going_on(scene, requests)
            witness = Witness(scene.client, scene.namespace)
            await crash_during(scene, crash, living, witness, prometheus_hosts=hosts)
            return [*await problems(scene, requests, how), *witness.problems()]

    return await crash_at_writes(numbers, disturbed, every=every, side_by_side=SIDE_BY_SIDE)


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes in a bake with holdback, or in the rollback from "
    "it; tested at some writes",
    "the next operator continues from the evidence in the status; the owner's weights are back "
    "before the pods go",
)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("how", GOING_ON)
async def test_a_crash_at_some_writes_changes_nothing(routed, prometheus, samples, how):
    assert await crash_at(routed, prometheus, samples, how, SAMPLE) == {}


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes in a bake with holdback, or in the rollback from "
    "it; tested at every write",
    "the next operator continues from the evidence in the status; the owner's weights are back "
    "before the pods go",
)
@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("how", GOING_ON)
async def test_a_crash_at_every_write_changes_nothing(routed, prometheus, samples, how):
    assert await crash_at(routed, prometheus, samples, how, 1) == {}
