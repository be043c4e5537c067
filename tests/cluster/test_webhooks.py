"""Writes that get a 500 of an API server that works: a webhook is down, or an apply is wrong.

What a real API server answers comes first. What the operator does with such answers is tested on a
server on this machine that gives them.
"""

import asyncio
import json
import time
from datetime import UTC, datetime

import pytest
import yaml
from aiohttp import web
from cluster.actuators import MINIMAL, actuator_with
from patience import within

from springtide_api.objects import parse_update
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.client import Client
from springtide_operator.cluster.api.clock import ServerClock
from springtide_operator.cluster.api.connection import Connection
from springtide_operator.cluster.api.kinds import DEPLOYMENT, UPDATE
from springtide_operator.cluster.api.limits import Limits
from springtide_operator.cluster.reading.observer import Observer
from springtide_operator.cluster.writing.refused import Refused
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


def _deployment(namespace, *variables):
    container = {
        "name": "server",
        "image": "server",
        "env": [{"name": each, "value": ""} for each in variables],
    }
    labels = {"app": "ranker"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"namespace": namespace, "name": "ranker"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


async def _applied_until_refused(client, namespace):
    """The API server hears of a webhook a moment after it is created."""
    async with within(30):
        while True:
            await client.apply(DEPLOYMENT, _deployment(namespace), manager="tests")
            await asyncio.sleep(0.1)


@pytest.mark.apiserver
async def test_a_write_whose_webhook_is_down_fails_for_the_webhook(apiserver, client, namespace):
    webhook = {
        "name": "down.example.com",
        "clientConfig": {"url": "https://127.0.0.1:1/validate"},
        "rules": [
            {
                "apiGroups": ["apps"],
                "apiVersions": ["v1"],
                "resources": ["deployments"],
                "operations": ["*"],
            }
        ],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "failurePolicy": "Fail",
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    kind = "ValidatingWebhookConfiguration"
    api_version, metadata = "admissionregistration.k8s.io/v1", {"name": namespace}
    body = {"apiVersion": api_version, "kind": kind, "metadata": metadata, "webhooks": [webhook]}
    apiserver.kubectl("create", "--filename=-", input=json.dumps(body))
    try:
        with pytest.raises(errors.WebhookFailed, match=r"down\.example\.com"):
            await _applied_until_refused(client, namespace)
    finally:
        apiserver.kubectl("delete", kind, namespace)


@pytest.mark.apiserver
async def test_an_apply_with_a_variable_twice_is_invalid(client, namespace):
    with pytest.raises(errors.Invalid, match="duplicate entries"):
        await client.apply(DEPLOYMENT, _deployment(namespace, "LOG", "LOG"), manager="tests")


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
        actuator = actuator_with(client)
        actuator.cache.insert(UPDATE, {**self.update})
        return actuator

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
