"""Whatever happens to two releases, one process at a time writes in a namespace, and one serves it
at the end. Minutes of labels, kills, cuts and deleted namespaces pass in skipped time.
"""

import asyncio
from unittest import mock

import pytest
from cluster.shard_world import MATCHES, SILENT_SECONDS, Release, Server, Space, remove_leases
from cluster.skipped_time import run
from hypothesis import given, settings
from hypothesis import strategies as st

from springtide_operator.cluster.api import lease as lease_module
from springtide_operator.cluster.watching import shard as shard_module

NAMESPACES = ("shop", "search")
SETTLED_SECONDS = 4 * SILENT_SECONDS
PAUSES = st.sampled_from((0.0, 0.3, 2.0, 7.0, 13.0, 31.0, 80.0))
NAMESPACE = st.sampled_from(NAMESPACES)
LABEL = st.sampled_from(("a", "b", "ab", ""))
RELEASE = st.sampled_from(("a", "b"))
SECONDS = st.sampled_from((0.0, 3.0, 15.0, 40.0))
HAPPENING = st.one_of(
    st.tuples(st.just("label"), NAMESPACE, LABEL),
    st.tuples(st.just("kill"), RELEASE, SECONDS, st.booleans()),
    st.tuples(st.just("cut"), RELEASE, SECONDS),
    st.tuples(st.just("delete"), NAMESPACE, SECONDS),
    st.tuples(st.just("create"), NAMESPACE, LABEL),
)
HISTORY = st.lists(st.tuples(HAPPENING, PAUSES), max_size=14)


class History:
    """Two releases, and what happens to them."""

    def __init__(self, loop, seed):
        self.server = Server(loop, seed)
        self.releases = {name: Release(self.server, name) for name in MATCHES}
        for name in NAMESPACES:
            self.create(name, "a")

    async def play(self, history):
        running = [asyncio.create_task(each.run()) for each in self.releases.values()]
        for (what, *arguments), pause in history:
            getattr(self, what)(*arguments)
            await asyncio.sleep(pause)
        self.server.calm = True
        await asyncio.sleep(SETTLED_SECONDS)
        assert not any(each.done() for each in running)
        wrong = self.server.problems + self.unsettled()
        for each in running:
            each.cancel()
        return wrong

    def label(self, name, label):
        if space := self.server.spaces.get(name):
            version = next(self.server.versions)
            self.server.change(name, Space(space.uid, label, version, space.terminating))

    def kill(self, release, seconds, same_pod):
        self.releases[release].kill(seconds, same_pod=same_pod)

    def cut(self, release, seconds):
        self.releases[release].cut(seconds)

    def delete(self, name, seconds):
        """The claim goes first, the namespace after its last finalizer."""
        space = self.server.spaces.get(name)
        if space is None or space.terminating:
            return
        version = next(self.server.versions)
        self.server.change(name, Space(space.uid, space.label, version, terminating=True))
        remove_leases(self.server, name)
        self.server.loop.call_later(seconds, self.server.change, name, None)

    def create(self, name, label):
        if name not in self.server.spaces:
            version = next(self.server.versions)
            self.server.change(name, Space(f"uid-{version}", label, version))

    def unsettled(self):
        """What is not as it must be once nothing happens any more."""
        found = []
        shards = {name: each.process.shard for name, each in self.releases.items()}
        for name, space in self.server.spaces.items():
            serving = {key for key, shard in shards.items() if shard.serves(name)}
            wanted = {key for key, labels in MATCHES.items() if space.label in labels}
            if not serving <= wanted or len(serving) != min(len(wanted), 1):
                found.append(f"{name} with label {space.label!r} is served by {serving}")
        for key, shard in shards.items():
            found += [f"{key}: {left}" for left in (shard.failing, shard._released_at) if left]
            if not shard._claimed <= set(self.server.spaces):
                found.append(f"{key} claims {shard._claimed}")
        return found


def wrong(history, seed):
    """Play a history; return what was wrong, and how many writes there were."""

    async def main(loop):
        with (
            mock.patch.object(lease_module, "time", loop),
            mock.patch.object(shard_module, "time", loop),
        ):
            played = History(loop, seed)
            return await played.play(history), played.server.writes

    return run(main)


@given(history=HISTORY, seed=st.integers(0, 2**32))
@settings(max_examples=60)
def test_one_process_at_a_time_writes_and_one_release_serves_at_the_end(history, seed):
    assert wrong(history, seed)[0] == []


@pytest.mark.faults
@pytest.mark.timeout(7200)
@given(history=HISTORY, seed=st.integers(0, 2**32))
@settings(max_examples=3000)
def test_one_process_at_a_time_writes_in_many_histories(history, seed):
    assert wrong(history, seed)[0] == []


def test_histories_notice_a_release_that_does_not_wait_for_the_last_write(monkeypatch):
    """The histories are worth something: without the wait they find two that write."""
    monkeypatch.setattr("cluster.shard_world.MARGIN", -TOO_SOON)
    monkeypatch.setattr("cluster.shard_world.HEARD", (0.0,))
    moves = [(("label", "shop", label), 31.0) for label in ("b", "a") * 4]
    assert wrong(moves, 1)[0]


def test_a_namespace_that_moves_is_written_in_by_both_in_turn():
    moves = [(("label", "shop", label), 80.0) for label in ("b", "a", "b")]
    problems, writes = wrong(moves, 1)
    assert problems == []
    assert writes > 200


TOO_SOON = 9.9
"""Seconds: the claim is released while writes are under way."""
