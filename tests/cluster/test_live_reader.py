"""Live reads with a short memory: what is asked again, and what the memory may hold."""

from types import SimpleNamespace

import pytest

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.reading import live_reader as live_readers
from springtide_operator.cluster.reading.live_reader import LiveReader


class Server:
    """Answers every read, and counts."""

    def __init__(self):
        self.reads, self.now = [], 0.0

    async def list_all(self, kind, namespace, **selectors):
        self.reads.append(kind.name)
        metadata = {"name": "x", "managedFields": [{"manager": "kubelet"}]}
        spec = {"replicas": 2, "template": {"spec": {}}}
        return SimpleNamespace(items=[{"metadata": metadata, "spec": spec, "status": {}}])

    async def get(self, kind, namespace, name):
        self.reads.append(kind.name)
        raise errors.NotFound("gone")


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def live_reader(server):
    return LiveReader(server, monotonic=lambda: server.now)


async def test_an_answer_counts_for_its_time_and_is_dropped_after_it(server, live_reader):
    for server.now in (0.0, 9.0):
        await live_reader.pods("n", "app=a")
    assert server.reads == ["Pod"]
    server.now = 11.0
    await live_reader.events("n", "uid")
    assert len(live_reader._reads) == 1
    await live_reader.pods("n", "app=a")
    assert server.reads == ["Pod", "Event", "Pod"]


@pytest.mark.survives(
    "Operator",
    "more live reads than the cache holds",
    "the least recently used answers are dropped: memory stays bounded",
)
async def test_the_memory_is_bounded(server, live_reader, monkeypatch):
    monkeypatch.setattr(live_readers, "MAX_CACHED_READS", 5)
    small = LiveReader(server, monotonic=lambda: server.now)
    for number in range(50):
        await small.replica_sets("n", "app=a", ("uid", number))
        await small.replica_sets("n", "app=a", ("uid", 0))
    assert len(small._reads) == 5
    assert server.reads.count("ReplicaSet") == 50


async def test_of_what_was_read_only_what_is_used_is_remembered(live_reader):
    (replica_set,) = await live_reader.replica_sets("n", "app=a", 1)
    assert replica_set == {"metadata": {"name": "x"}, "spec": {"template": {"spec": {}}}}
    (pod,) = await live_reader.pods("n", "app=a")
    assert pod == {"metadata": {"name": "x"}, "status": {}}


async def test_a_deployment_that_does_not_exist_is_asked_for_every_time(server, live_reader):
    for _ in range(2):
        assert await live_reader.deployment("n", "a") is None
    assert server.reads == ["Deployment", "Deployment"]
