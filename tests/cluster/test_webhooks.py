"""Writes that get a 500 of an API server that works: a webhook is down, or an apply is wrong.

The webhook is a page of a server on this machine, which answers in the words of an API server.
"""

import time
from datetime import UTC, datetime

import pytest
import yaml
from aiohttp import web
from cluster.actuators import MINIMAL

from springtide_api.objects import parse_update
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.client import Client
from springtide_operator.cluster.api.clock import ServerClock
from springtide_operator.cluster.api.connection import Connection
from springtide_operator.cluster.api.kinds import UPDATE
from springtide_operator.cluster.api.limits import Limits
from springtide_operator.cluster.reading.live_reader import LiveReader
from springtide_operator.cluster.reading.observer import Observer
from springtide_operator.cluster.watching.watches import new_cache
from springtide_operator.cluster.writing.actuator import Actuator
from springtide_operator.cluster.writing.events import Events
from springtide_operator.cluster.writing.refused import Refused
from springtide_operator.cluster.writing.status_writer import StatusWriter
from springtide_operator.lifecycle.routes.actions import SetRouteWeights
from springtide_operator.lifecycle.routes.weights import WeightChange
from springtide_operator.lifecycle.state.observed import Defaults
from springtide_operator.lifecycle.state.plan import Event, Plan, SetFinalizer
from springtide_operator.metrics import Metrics
from springtide_operator.ports.progress import ProgressReports
from springtide_operator.ports.prometheus import Prometheus
from springtide_operator.ports.sampling import Sampling
from springtide_operator.reconcile import Reconciler
from springtide_operator.work_queue import NamespacedName

DOWN = (
    'Internal error occurred: failed calling webhook "routes.example.com": failed to call webhook: '
    'Post "https://routes.edge.svc:443/validate?timeout=10s": dial tcp 10.0.0.7:443: connect: '
    "connection refused"
)
TWICE = (
    "failed to create typed patch object (search/ranker-canary; apps/v1, Kind=Deployment): "
    '.spec.template.spec.containers[name="server"].env: duplicate entries for key [name="LOG"]'
)
TO_CANARY = SetRouteWeights("ranker", "route", (WeightChange(0, 0, "ranker", 100, 90),))


@pytest.fixture
async def cluster(tmp_path):
    """A server that knows one update, and refuses the writes that `refused` names."""
    return await _Cluster.started(tmp_path)


class _Cluster:
    def __init__(self):
        self.update = yaml.safe_load(MINIMAL.read_text())
        self.update["metadata"] |= {
            "namespace": "search",
            "uid": "u1",
            "generation": 1,
            "resourceVersion": "1",
            "creationTimestamp": "2026-03-01T12:00:00Z",
        }
        self.refused = {}
        """Messages by the plural of a kind."""
        self.written = []

    @classmethod
    async def started(cls, folder):
        made = cls()
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", made.answer)
        made.runner = web.AppRunner(application, access_log=None)
        await made.runner.setup()
        site = web.TCPSite(made.runner, "127.0.0.1", 0)
        await site.start()
        host, port = made.runner.addresses[0][:2]
        file = folder / "kubeconfig"
        file.write_text(_kubeconfig(f"http://{host}:{port}"))
        made.connection = await Connection.open(file)
        return made

    async def answer(self, request):
        plural = request.path.rsplit("/", 2)[-2 if request.method == "PATCH" else -1]
        if request.method == "GET":
            return web.json_response(self.update)
        if message := self.refused.get(plural):
            status = {"kind": "Status", "status": "Failure", "code": 500, "message": message}
            return web.json_response(status, status=500)
        self.written.append(plural)
        return web.json_response({**self.update, "metadata": {**self.update["metadata"]}})

    def actuator(self):
        client = Client(
            self.connection, ServerClock(time.monotonic), Limits(monotonic=time.monotonic)
        )
        client.clock.learn(f"{datetime.now(UTC):%a, %d %b %Y %H:%M:%S} GMT", sent=0.0, received=0.0)
        cache = new_cache()
        cache.insert(UPDATE, {**self.update})
        return Actuator(
            client=client,
            cache=cache,
            live_reader=LiveReader(client),
            events=Events(client, "springtide"),
            status_writer=StatusWriter(client, cache),
            progress_url="http://progress",
        )

    async def stop(self):
        await self.connection.close()
        await self.runner.cleanup()


def _kubeconfig(server):
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": server}}],
            "users": [{"name": "u", "user": {}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
    )


@pytest.mark.survives(
    "API server",
    "an admission webhook that must be asked is down (500)",
    "the write counts as refused: it is reported and repeated every 30 to 40 s, and what does not "
    "need it goes on, such as the rollback of the targets where a route cannot be written",
)
@pytest.mark.parametrize("message", [DOWN, TWICE])
async def test_a_write_that_fails_for_a_webhook_or_by_its_form_is_refused(cluster, message):
    actuator, update = cluster.actuator(), parse_update(cluster.update).metadata
    cluster.refused = {"httproutes": message}
    with pytest.raises(Refused) as refused:
        await actuator.execute(update, TO_CANARY)
    assert refused.value.reason == "PatchRefused"
    assert message[:100] in refused.value.message
    await cluster.stop()


async def test_a_server_error_of_another_cause_is_no_refusal_and_repeated_soon(cluster):
    actuator, update = cluster.actuator(), parse_update(cluster.update).metadata
    cluster.refused = {"httproutes": "etcdserver: leader changed"}
    with pytest.raises(errors.Unavailable) as failed:
        await actuator.execute(update, TO_CANARY)
    assert failed.value.max_backoff == 15.0
    await cluster.stop()


async def test_an_event_that_a_webhook_refuses_holds_up_nothing(cluster):
    actuator, update = cluster.actuator(), parse_update(cluster.update).metadata
    cluster.refused = {"events": DOWN}
    sampling = Sampling(Prometheus(frozenset()), actuator.client.clock.now, lambda *_: None)
    observer = Observer(
        actuator.cache,
        actuator.live_reader,
        ProgressReports(),
        sampling,
        Defaults("trainer", "http://progress"),
        set(),
    )
    reconciler = Reconciler(observer, actuator, actuator.client.clock, Metrics(), sampling)
    plan = Plan((SetFinalizer(present=True),), (Event("Started", "it begins"),), None, None)
    assert await reconciler._execute_plan(NamespacedName("search", "ranker"), update, plan)
    assert cluster.written == ["incrementalupdates"]
    await cluster.stop()
