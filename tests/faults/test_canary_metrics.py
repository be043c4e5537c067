"""A canary whose requests fail more often, with a real API server and a real Prometheus.

An operator that ends before or after any write from the start of the steps to the end of the
rollback leaves the same: the next one continues from the evidence in the status.
"""

import asyncio
import contextlib

import pytest
from faults.copying import Snapshot
from faults.crashing import crash_at_writes, crash_during
from faults.life import LIFE, play
from faults.playing import Recorder
from lifecycle.declared import SPEC

from springtide_operator.cluster.api.kinds import DEPLOYMENT

pytestmark = [pytest.mark.apiserver, pytest.mark.prometheus]

SIDE_BY_SIDE = 12
SAMPLE = 13
"""Every so many of the crashes are tried in each run of the tests."""
SELECTOR = 'requests{{namespace="{{{{namespace}}}}",generation="{{{{generation}}}}"{}}}'
RATIO = {
    "bad": SELECTOR.format(',outcome="error"'),
    "total": SELECTOR.format(""),
    "maxRegression": "0.1",
}
ALL_BAD = {1: (1, 50), 2: (20, 40)}
"""Bad and all requests of a generation in each moment: the second fails every other one."""
GOOD = {1: (1, 50), 2: (1, 40)}


def rollout(prometheus):
    steps = [{"weight": 33, "duration": "10s", "minRequests": 400}]
    return {
        **SPEC["rollout"],
        "targets": [{"targetRef": {"name": "ranker"}, "container": "server"}],
        "strategy": {"type": "Canary", "canary": {"steps": steps}},
        "analysis": {
            "interval": "5s",
            "prometheus": {"address": prometheus.url},
            "metrics": [{"name": "errors", "ratio": RATIO}],
        },
    }


class Requests:
    """Counters of a namespace that grow all the time, as Prometheus scrapes them."""

    def __init__(self, samples, namespace, rates):
        self.samples, self.namespace, self.rates = samples, namespace, rates
        self.counted = dict.fromkeys(rates, (0, 0))

    async def run(self):
        while True:
            for number, (bad, total) in self.rates.items():
                before = self.counted[number]
                self.show(number, *before)
                self.counted[number] = before[0] + bad, before[1] + total
            await asyncio.sleep(0.5)

    def show(self, number, bad, total):
        for outcome, count in (("error", bad), ("ok", total - bad)):
            labels = f'namespace="{self.namespace}",generation="{number}",outcome="{outcome}"'
            self.samples.set(f"requests{{{labels}}}", count)


@contextlib.asynccontextmanager
async def requested(samples, scene, rates):
    requests = Requests(samples, scene.namespace, rates)
    task = asyncio.create_task(requests.run())
    try:
        yield requests
    finally:
        task.cancel()


async def live(ground, prometheus, *hooks):
    """Generation 1 is live; the next one starts with a canary."""
    scene = await ground.scene()
    hosts = frozenset({prometheus.url.removeprefix("http://")})
    await scene.declare(rollout=rollout(prometheus))
    await scene.start(*hooks, prometheus_hosts=hosts)
    await play(scene, LIFE[:2])
    return scene, hosts


def of(scene, number):
    return scene.generation(number).get("rollout") or {}


async def try_generation_two(scene):
    """Train generation 2 and wait until its rollout has ended in some way."""
    scene.world.months.append("2025-03")
    await scene.ask("run@2")
    await scene.until(lambda _: scene.generation(2).get("outcome"))


def problems(scene, requests):
    """What is not as it must be once generation 2 was found worse."""
    found = of(scene, 2)
    (known,) = found.get("comparisons") or [None]
    samples = [sample for sample in found["analysis"] if sample.get("value")]
    deployments = {
        raw["metadata"]["name"]: raw
        for raw in scene.ground.cache.stores[DEPLOYMENT].all()
        if raw["metadata"]["namespace"] == scene.namespace
    }
    checks = {
        "outcome": scene.generation(2)["outcome"] == "RolledBack",
        "reason": "requests of the canary are bad" in found["rollbackReason"],
        f"samples {samples}": [each["verdict"] for each in samples][-1:] == ["Fail"],
        "each sample once": len({each["time"] for each in samples}) == len(samples),
        "no request twice": known["watched"]["total"] <= requests.counted[2][1],
        "never promoted": "promotedAt" not in found,
        f"canary is gone: {[*deployments]}": [*deployments] == ["ranker"],
        "target": served_by_target(deployments) == digest_of(scene, 1),
    }
    return [name for name, holds in checks.items() if not holds]


def served_by_target(deployments):
    template = deployments["ranker"]["spec"]["template"]
    return template["metadata"]["annotations"]["springtide.dev/digest"]


def digest_of(scene, number):
    return scene.generation(number)["artifact"]["servedDigest"]


@pytest.mark.survives(
    "Deployments",
    "a canary answers with more errors than the live generation, as a real Prometheus counts them",
    "the canary is deleted, and the target keeps its pods",
)
async def test_a_canary_that_fails_more_requests_is_removed(ground, prometheus, samples):
    scene, _ = await live(ground, prometheus)
    async with requested(samples, scene, ALL_BAD) as requests:
        await try_generation_two(scene)
        assert problems(scene, requests) == []


async def test_a_canary_that_is_as_good_passes_once_it_has_had_its_requests(
    ground, prometheus, samples
):
    scene, _ = await live(ground, prometheus)
    async with requested(samples, scene, GOOD):
        await try_generation_two(scene)
    (known,) = of(scene, 2)["comparisons"]
    assert scene.generation(2)["outcome"] == "Live"
    assert known["watched"]["total"] >= 400


async def crash_at(ground, prometheus, samples, every):
    """Try every so many of the crashes from the first step on; return what was wrong, by place."""
    recorder = Recorder()
    scene, hosts = await live(ground, prometheus, recorder)
    snapshot = await Snapshot.of(scene)
    before = len(recorder.writes)
    async with requested(samples, scene, ALL_BAD) as requests:
        trying = asyncio.create_task(try_generation_two(scene))
        await scene.until(lambda _: of(scene, 2).get("weightSeenAt"))
        first = len(recorder.writes) - before
        await trying
        assert problems(scene, requests) == []
    numbers = range(first, len(recorder.writes) - before + 1)

    async def one(crash):
        return await disturbed(await snapshot.restore(), hosts, samples, crash)

    return await crash_at_writes(numbers, one, every=every, side_by_side=SIDE_BY_SIDE)


async def disturbed(scene, hosts, samples, crash):
    """Let the operator end at one write of the canary; return what is wrong at the end."""
    async with requested(samples, scene, ALL_BAD) as requests:
        await crash_during(scene, crash, try_generation_two(scene), prometheus_hosts=hosts)
        return problems(scene, requests)


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes in a canary that fails; tested at some writes",
    "the next operator continues from the evidence in the status and removes the canary once",
)
@pytest.mark.timeout(900)
async def test_a_crash_at_some_writes_of_a_canary_changes_nothing(ground, prometheus, samples):
    assert await crash_at(ground, prometheus, samples, SAMPLE) == {}


@pytest.mark.survives(
    "Operator",
    "is ended before or after one of its writes in a canary that fails; tested at every write",
    "the next operator continues from the evidence in the status and removes the canary once",
)
@pytest.mark.faults
@pytest.mark.timeout(3600)
async def test_a_crash_at_every_write_of_a_canary_changes_nothing(ground, prometheus, samples):
    assert await crash_at(ground, prometheus, samples, 1) == {}
