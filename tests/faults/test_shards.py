"""Two releases share a cluster by labels of namespaces: one writes, before and after a move.

Claims are writes too: an operator that ends before or after any of them leaves a namespace that the
next process, or the other release, serves.
"""

import asyncio
import time

import pytest
from faults.directing import directed
from faults.life import LIFE, play
from faults.playing import Crash
from faults.test_canaries import is_over, problems, rollout, state
from faults.test_crashes import lasting, live

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.claims import CLAIM
from springtide_operator.cluster.api.kinds import LEASE, NAMESPACE, UPDATE

pytestmark = pytest.mark.apiserver

ACTS = LIFE[:3]
DRAIN_SECONDS = 1.0
"""No request of these tests takes longer, where a test does not look at single writes."""
LONG_STEP = {"type": "Canary", "canary": {"steps": [{"weight": 33, "duration": "10m"}]}}
LABEL = "example.com/shard"
_wanted = []


class Times:
    """When each write was sent and answered; `pick` names the one at which something happens."""

    def __init__(self, pick=None):
        self.pick, self.happened = pick, asyncio.Event()
        self.sent, self.answered = [], []

    async def before_write(self, number, verb, path):
        self.sent.append((time.monotonic(), verb, path.partition("?")[0]))

    async def after_write(self, number, verb, path):
        self.answered.append((time.monotonic(), verb, path.partition("?")[0]))
        if self.pick is not None and self.pick(verb, path):
            self.happened.set()


def serves(verb, path):
    """Whether a write applies a rollout to the Deployment."""
    return verb == "PATCH" and "/deployments/ranker" in path


def trains(verb, path):
    """Whether a write creates the Job of a training."""
    return verb == "POST" and path.endswith("/jobs")


class Fleet:
    """A namespace, and the operators of two releases."""

    def __init__(self, scene):
        self.scene = scene

    async def label(self, shard):
        metadata = {"name": self.scene.namespace, "labels": {LABEL: self.value(shard)}}
        client = self.scene.client
        await client.apply(NAMESPACE, {"metadata": metadata}, manager="person", force=True)

    def value(self, shard):
        return f"{self.scene.namespace}-{shard}"

    async def start(self, shard, *write_hooks, selector="", claiming=(), drain=None):
        """Start the operator of a release; `claiming` are hooks of the writes of its claims."""
        settings = {
            "namespace": "",
            "namespace_selector": selector or f"{LABEL}={self.value(shard)}",
            "lease_name": shard,
            "identity": f"pod-{shard}",
        }

        def prepare(operator):
            operator.shard.claims.client.write_hooks += claiming
            operator.shard.drain_seconds = drain or operator.shard.drain_seconds

        return await self.scene.start(*write_hooks, prepare=prepare, **settings)

    async def claim(self):
        return await self.scene.client.get(LEASE, self.scene.namespace, CLAIM)


async def wanted(ground):
    """Live once with one operator."""
    if not _wanted:
        _wanted.append(await live(ground, acts=ACTS))
    return _wanted[0]


async def moved(ground, crash, at):
    """Move a namespace at the first write that `at` picks; return what is wrong.

    `crash` names whose operator ends at this moment: none, that of the old release, or that of the
    new one, as soon as it has written.
    """
    scene = await ground.scene()
    fleet, old, new = Fleet(scene), Times(at), Times(at)
    living = None
    try:
        await fleet.label("a")
        await scene.declare()
        await fleet.start("a", old)
        await fleet.start("b", new)
        living = asyncio.create_task(play(scene, ACTS, seconds=150))
        await asyncio.wait_for(old.happened.wait(), 150)
        await fleet.label("b")
        if crash == "old":
            await scene.edges.pop(0).drop()
        if crash == "new":
            await scene.until(lambda _: new.answered, seconds=90)
            await scene.edges.pop().drop()
            await fleet.start("b", new)
        await living
        late = [each for each in old.answered if each[0] >= new.sent[0][0]]
        found = [
            f"{verb} {path} of the old one after the first of the new one" for _, verb, path in late
        ]
        claim = await fleet.claim()
        if "/b/" not in claim["spec"]["holderIdentity"]:
            found.append(f"held by {claim['spec']['holderIdentity']}")
        return found + await lasting(scene, await wanted(ground))
    except AssertionError as error:
        return [str(error)]
    finally:
        if living is not None:
            living.cancel()
        await scene.close()


@pytest.mark.survives(
    "Operator",
    "the label of a namespace moves it to another release while a Job is created or during a "
    "rollout; the operator of the old or of the new release is ended at this moment",
    "the old release writes nothing after the first write of the new one; the result is the same",
)
@pytest.mark.timeout(300)
async def test_a_namespace_moves_during_a_run_and_one_release_writes_at_a_time(ground):
    await wanted(ground)
    crashes = {"none": serves, "old": trains, "new": serves}
    found = await asyncio.gather(*(moved(ground, crash, at) for crash, at in crashes.items()))
    wrong = {crash: each for crash, each in zip(crashes, found, strict=True) if each}
    assert wrong == {}


@pytest.mark.survives(
    "Operator",
    "the label of a namespace moves it to another release during a step of a canary, and back "
    "during the rollback of it",
    "the other release continues the step, and the first one the rollback; no canary is left",
)
@pytest.mark.timeout(300)
async def test_a_namespace_moves_during_a_canary_and_back_during_its_rollback(ground):
    scene = await directed(ground)
    rolls_back = Times(lambda verb, path: "/modelgenerations/shop-g2" in path)
    fleet = Fleet(scene)
    await fleet.label("a")
    await scene.declare(rollout=rollout(LONG_STEP))
    await fleet.start("a", drain=DRAIN_SECONDS)
    second = await fleet.start("b", rolls_back, drain=DRAIN_SECONDS)
    await play(scene, LIFE[:2])
    scene.world.months.append("2025-03")
    await scene.ask("run@2")
    await scene.until(lambda _: state(scene).get("weightSeenAt"))
    began = state(scene)["stepStartedAt"]
    await fleet.label("b")
    await scene.until(lambda _: second.shard.served)
    await scene.touch()
    await asyncio.sleep(1)
    assert state(scene)["stepStartedAt"] == began
    rolls_back.happened.clear()
    await scene.ask("rollback.g2@3")
    await asyncio.wait_for(rolls_back.happened.wait(), 60)
    await fleet.label("a")
    await scene.until(lambda _: is_over(scene, "RolledBack", 1))
    await scene.until(lambda _: not second.shard.served)
    assert await problems(scene, live=1) == []


async def claimed(ground, shard, crash):
    """Move a namespace while the release `shard` ends at a write of its claim; return its end."""
    scene = await ground.scene()
    fleet = Fleet(scene)
    hooks = {each: (crash,) if each == shard else () for each in "ab"}
    try:
        await fleet.label("a")
        await scene.declare()
        # A start waits for its claims, and an operator that has ended waits for ever.
        starts = {
            each: asyncio.create_task(fleet.start(each, claiming=hooks[each], drain=DRAIN_SECONDS))
            for each in "ab"
        }
        if not await _ended(crash, starts["a"]):
            await play(scene, ACTS[:1], seconds=400)
            await fleet.label("b")
            await scene.until(lambda _: crash.happened.is_set(), seconds=180)
        for task in starts.values():
            task.cancel()
        await asyncio.gather(*starts.values(), return_exceptions=True)
        await scene.drop()
        await fleet.label("b")
        await fleet.start("a", drain=DRAIN_SECONDS)
        second = await fleet.start("b", drain=DRAIN_SECONDS)
        await scene.until(lambda _: second.shard.served, seconds=180)
        await play(scene, ACTS[:1], seconds=400)
        return [] if "/b/" in (await fleet.claim())["spec"]["holderIdentity"] else ["not held by b"]
    except (AssertionError, TimeoutError) as error:
        return [repr(error)]
    finally:
        await scene.close()


async def _ended(crash, start):
    """Whether an operator ended at its start."""
    ended = asyncio.create_task(crash.happened.wait())
    await asyncio.wait({ended, start}, return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    return crash.happened.is_set()


@pytest.mark.survives(
    "Operator",
    "of a shard is ended before or after the write that takes or releases a claim",
    "the next process or the other release takes the claim, and serves the namespace",
)
@pytest.mark.timeout(600)
async def test_a_crash_at_each_write_of_a_claim_leaves_a_namespace_that_is_served(ground):
    crashes = [
        (shard, Crash(number, before=before))
        for shard, number in (("a", 1), ("a", 2), ("b", 1))
        for before in (True, False)
    ]
    found = await asyncio.gather(*(claimed(ground, *each) for each in crashes))
    ends = [f"{shard} {crash.where}" for shard, crash in crashes]
    assert {end: each for end, each in zip(ends, found, strict=True) if each} == {}
    assert all(crash.where for _, crash in crashes)


@pytest.mark.survives(
    "Operator",
    "two releases whose selectors match the same namespace",
    "the first one serves it, the other one writes nothing in it and reports who holds it",
)
async def test_of_overlapping_selectors_one_serves_and_the_other_reports(ground):
    scene = await ground.scene()
    fleet, one, other = Fleet(scene), Times(), Times()
    await fleet.label("a")
    await scene.declare()
    both = f"{LABEL}={fleet.value('a')}"
    first = await fleet.start("a", one, selector=both)
    second = await fleet.start("b", other, selector=both)
    await play(scene, ACTS[:1])
    assert (first.shard.served, second.shard.served) == (1, 0)
    assert second.scope()["elsewhere"] == {scene.namespace: f"{scene.leases}/a"}
    assert one.answered
    assert other.sent == []
    text = second.metrics.registry.get_sample_value
    assert text("springtide_namespaces_held_elsewhere") == 1
    labels = {"namespace": "", "selector": both}
    assert text("springtide_watch_scope", labels) == 1


async def test_a_release_without_a_selector_claims_nothing(ground):
    scene = await ground.scene()
    fleet = Fleet(scene)
    await scene.declare()
    operator = await scene.start()
    await play(scene, ACTS[:1])
    assert operator.shard is None
    assert "namespaces" not in operator.health().silence
    with pytest.raises(errors.NotFound):
        await fleet.claim()


async def test_a_namespace_without_the_label_is_left_alone(ground):
    scene = await ground.scene()
    fleet, times = Fleet(scene), Times()
    await scene.declare()
    operator = await fleet.start("a", times)
    assert operator.shard.served == 0
    assert list(operator.cache.stores[UPDATE].all()) == []
    await fleet.label("a")
    await play(scene, ACTS[:1])
    assert times.answered
