"""Two releases share a cluster by labels of namespaces: one writes, before and after a move."""

import asyncio
import time

import pytest
from faults.life import LIFE, play
from faults.test_crashes import lasting, live

from springtide_operator.cluster.api.claims import CLAIM
from springtide_operator.cluster.api.kinds import LEASE, NAMESPACE, UPDATE

pytestmark = pytest.mark.apiserver

ACTS = LIFE[:3]
LEASE_SECONDS = 15
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

    async def start(self, shard, *write_hooks, selector=""):
        return await self.scene.start(
            *write_hooks,
            namespace="",
            namespace_selector=selector or f"{LABEL}={self.value(shard)}",
            lease_name=shard,
            identity=f"pod-{shard}",
            lease_seconds=LEASE_SECONDS,
        )

    async def claim(self):
        return await self.scene.client.get(LEASE, self.scene.namespace, CLAIM)


async def wanted(ground):
    """Live once with one operator."""
    if not _wanted:
        _wanted.append(await live(ground, acts=ACTS))
    return _wanted[0]


async def moved(ground, crash):
    """Move a namespace at the first write of a rollout; return what is wrong.

    `crash` names whose operator ends at this moment: none, that of the old release, or that of the
    new one, as soon as it has written.
    """
    scene = await ground.scene()
    fleet, old, new = Fleet(scene), Times(serves), Times(serves)
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
    "the label of a namespace moves it to another release during a rollout; the operator of the "
    "old or of the new release is ended at this moment",
    "the old release writes nothing after the first write of the new one; the result is the same",
)
@pytest.mark.timeout(300)
async def test_a_namespace_moves_during_a_rollout_and_one_release_writes_at_a_time(ground):
    await wanted(ground)
    crashes = ("none", "old", "new")
    found = await asyncio.gather(*(moved(ground, crash) for crash in crashes))
    wrong = {crash: each for crash, each in zip(crashes, found, strict=True) if each}
    assert wrong == {}


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
