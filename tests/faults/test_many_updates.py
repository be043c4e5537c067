"""Very many updates at once: all get there, none starves another, the API server is spared."""

import asyncio
import json
import resource
import time

import pytest
from faults.playing import CRDS, Recorder
from handlers.stand_ins import StandIns
from lifecycle.declared import SPEC
from local_cluster.apiserver import ApiServer

from springtide_api.contract import RunFile
from springtide_operator.assembly import Operator
from springtide_operator.cluster.cache import Cache, Store
from springtide_operator.cluster.client import Client
from springtide_operator.cluster.clock import ServerClock
from springtide_operator.cluster.connection import Connection
from springtide_operator.cluster.kinds import DEPLOYMENT, JOB, NAMESPACE, UPDATE
from springtide_operator.cluster.limits import Limits
from springtide_operator.cluster.reflector import Reflector
from springtide_operator.lifecycle.plan import StartJob
from springtide_operator.settings import Settings

pytestmark = pytest.mark.apiserver

MOST_PER_SECOND = 50
"""Requests that the operator allows itself in the long run, and twice as many at once."""
MOST_PROBES = 3
MEGABYTES_EACH = 1.0
"""Memory that one update may cost, stand-ins and all."""


@pytest.fixture
def empty():
    """An API server that nobody else uses: the operator looks after all its namespaces."""
    server = ApiServer()
    try:
        server.open()
        for crd in sorted(CRDS.glob("*.yaml")):
            server.kubectl("apply", "--server-side", "-f", str(crd))
        server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield server
    finally:
        server.close()


class Crowd(StandIns):
    """Watches updates and Jobs of all namespaces; ends every Job, and counts."""

    def __init__(self, client):
        super().__init__(client, "")
        stores = {kind: Store(lambda raw: "", lambda raw: None) for kind in (UPDATE, JOB)}
        self.cache = Cache(stores)
        self.arrived = []
        """Namespaces of updates in the order in which they got there."""
        self.most_probes = 0
        self._there, self._ended, self._tasks = set(), set(), set()

    def watch(self):
        for kind, store in self.cache.stores.items():
            self._do(Reflector(self.client, kind, store, self.changed).run())

    def changed(self, kind, raw):
        metadata = raw["metadata"]
        if kind == UPDATE and self.is_there(raw) and metadata["uid"] not in self._there:
            self._there.add(metadata["uid"])
            self.arrived.append(metadata["namespace"])
        if kind == JOB:
            self.count_probes()
            if metadata["uid"] not in self._ended:
                self._ended.add(metadata["uid"])
                self._do(self.end(raw))

    def is_there(self, raw):
        """Whether its model is imported."""
        history = (raw.get("status") or {}).get("history") or [{}]
        return history[0].get("verdict") == "Imported"

    def count_probes(self):
        running = [
            raw
            for raw in self.cache.stores[JOB].all()
            if self.stage(raw) == "probe" and not (raw.get("status") or {}).get("conditions")
        ]
        self.most_probes = max(self.most_probes, len(running))

    async def end(self, job):
        if self.stage(job) == "probe":
            await asyncio.sleep(0.5)
        template = job["spec"]["template"]
        run = RunFile.model_validate_json(template["metadata"]["annotations"]["springtide.dev/run"])
        result = self.world._result(StartJob(run=run, image="trainer"))
        place = StandIns(self.client, job["metadata"]["namespace"])
        await place.pod(job, "Succeeded", 0, json.dumps(result.plain()))
        now = self.client.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        said = {"status": "True", "lastTransitionTime": now}
        conditions = [{"type": kind, **said} for kind in ("SuccessCriteriaMet", "Complete")]
        status = {"startTime": now, "completionTime": now, "succeeded": 1}
        await place.status(JOB, job, {**status, "conditions": conditions})

    def _do(self, part):
        task = asyncio.create_task(part)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def go(self):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def populate(client, namespace, count):
    """Create so many updates with a Deployment each."""
    await client.create(NAMESPACE, {"metadata": {"name": namespace}})

    async def one(number):
        name = f"u{number}"
        place = {"namespace": namespace, "name": name}
        labels = {"app": name}
        container = {"name": "server", "image": "server"}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        served = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
        await client.create(DEPLOYMENT, {"metadata": place, "spec": served})
        targets = [{"targetRef": {"name": name}, "container": "server"}]
        spec = {**SPEC, "trigger": {"onData": {"pollInterval": "24h"}}}
        body = {"apiVersion": UPDATE.api_version, "kind": UPDATE.name, "metadata": place}
        await client.create(UPDATE, {**body, "spec": {**spec, "rollout": {"targets": targets}}})

    await asyncio.gather(*map(one, range(count)))


def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def crowd(server, large, small, seconds):
    """Create that many in two namespaces before the operator starts; wait for all."""
    connection = await Connection.open(server.kubeconfig)
    limits = Limits(per_second=2000, burst=1000, in_flight=100, monotonic=time.monotonic)
    client = Client(connection, ServerClock(time.monotonic), limits)
    watching = Crowd(client)
    await populate(client, "large", large)
    await populate(client, "small", small)
    watching.watch()
    settings = Settings("trainer", "http://operator:8080", max_probes=MOST_PROBES)
    operator, recorder = Operator(settings, connection), Recorder()
    operator.ended.add_done_callback(lambda ended: ended.exception())
    operator.client.observers.append(recorder)
    requests = []
    operator.client.count = lambda verb, status: requests.append(time.monotonic())
    before, began = megabytes(), time.monotonic()
    await operator.start()
    try:
        while len(watching.arrived) < large + small:
            assert time.monotonic() - began < seconds, f"{len(watching.arrived)} got there"
            assert not operator.ended.done()
            await asyncio.sleep(0.2)
        took = time.monotonic() - began
        assert len(requests) <= MOST_PER_SECOND * took + 2 * MOST_PER_SECOND + 10
        assert megabytes() - before <= 50 + MEGABYTES_EACH * (large + small)
        print(
            f"{large + small} in {took:.0f} s: {len(requests)} requests, {len(recorder.writes)} "
            f"writes, {megabytes() - before:.0f} MiB more, {watching.most_probes} probes at once"
        )
        return watching
    finally:
        await operator.drop()
        await watching.go()
        await connection.close()


def fair(arrived):
    """Whether the small namespace is done while much of the large one still waits."""
    last = max(place for place, namespace in enumerate(arrived) if namespace == "small")
    behind = arrived[last:].count("large")
    return behind >= arrived.count("large") / 3


@pytest.mark.survives(
    "Operator",
    "60 updates made at once, four fifths of them in one namespace",
    "all are imported; the small namespace is done while the large one waits; "
    "requests, memory and probes at one time stay within their limits",
)
async def test_many_updates_at_once_get_there_in_fair_order(empty):
    watching = await crowd(empty, 48, 12, seconds=120)
    assert fair(watching.arrived)
    assert watching.most_probes <= MOST_PROBES


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.survives(
    "Operator",
    "500 updates made at once, 400 of them in one namespace",
    "all get there; the 100 are done while the 400 wait; requests, memory and probes at one time "
    "stay within their limits",
)
async def test_500_updates_at_once_get_there_in_fair_order(empty):
    watching = await crowd(empty, 400, 100, seconds=1500)
    assert fair(watching.arrived)
    assert watching.most_probes <= MOST_PROBES
