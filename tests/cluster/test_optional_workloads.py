"""Workloads of Kueue are watched only where their CRD is installed, and wake the Job's update."""

import asyncio

import pytest
from cluster import workloads
from cluster.workloads import workload
from patience import within

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import JOB, WORKLOAD
from springtide_operator.cluster.reading.workload_reader import WorkloadReader
from springtide_operator.cluster.watching import optional_kind, watches

pytestmark = pytest.mark.apiserver


@pytest.fixture
def soon(monkeypatch):
    for name in ("NEEDED_SECONDS", "STARTING_SECONDS", "UNAVAILABLE_SECONDS"):
        monkeypatch.setattr(optional_kind, name, 0.05)


@pytest.fixture
def without_kind(apiserver):
    """The API server without the kind; it is there again afterwards."""
    apiserver.kubectl("delete", "crd", workloads.CRD, "--ignore-not-found")
    yield
    workloads.install(apiserver)


async def until(condition):
    async with within(60):
        while not condition():
            await asyncio.sleep(0.02)


async def created(client, body):
    """A Workload, once the API server serves the kind."""
    async with within(60):
        while True:
            try:
                return await client.create(WORKLOAD, body)
            except errors.NotFound:
                await asyncio.sleep(0.05)


def job(namespace):
    labels = {"springtide.dev/update": "shop", "kueue.x-k8s.io/queue-name": "gpus"}
    metadata = {"namespace": namespace, "name": "j", "uid": "u1", "labels": labels}
    return {"metadata": {**metadata, "resourceVersion": "1"}, "spec": {"suspend": True}}


@pytest.mark.survives(
    "Queues",
    "the CRD of Workloads is absent, is installed later, and is removed",
    "the operator works without it, and finds Workloads without a restart",
)
async def test_workloads_are_found_once_kueue_is_installed_and_missed_when_it_is_removed(
    client, namespace, apiserver, without_kind, soon
):
    woken, cache = [], watches.new_cache()
    wake = lambda place, name: woken.append((place, name))  # noqa: E731
    (watched,) = [
        each for each in watches.reflectors(client, cache, namespace, wake) if each.kind == WORKLOAD
    ]
    reader, store = WorkloadReader(cache), cache.stores[WORKLOAD]
    cache.insert(JOB, job(namespace))
    task = asyncio.create_task(watched.run())
    try:
        await until(lambda: store.unavailable)
        assert (reader.kueue().served, reader.kueue().unavailable) == (
            False,
            "the API server does not serve workloads of kueue.x-k8s.io; install a version of "
            "Kueue that serves v1beta1, such as 0.14",
        )
        workloads.install(apiserver)
        await created(client, workload(namespace, "j", "u1"))
        await until(lambda: woken == [(namespace, "shop")])
        assert not reader.kueue().unavailable
        unlabelled = workload(namespace, "pods", "u3")
        del unlabelled["metadata"]["labels"]
        await created(client, unlabelled)
        await created(client, workload(namespace, "k", "u2"))
        await until(lambda: store.get(namespace, "job-k-u2"))
        assert store.get(namespace, "job-pods-u3") is None, "it is of no Job"
        assert woken == [(namespace, "shop")]
        apiserver.kubectl("delete", "crd", workloads.CRD)
        await until(lambda: store.unavailable)
        assert not list(store.all())
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
