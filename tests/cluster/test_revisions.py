"""Annotations of Deployments and ReplicaSets that the controller writes, and any client may."""

from types import SimpleNamespace

import pytest
import yaml
from cluster.actuators import MINIMAL

from springtide_operator.cluster.api.kinds import DEPLOYMENT, REPLICA_SET, UPDATE
from springtide_operator.cluster.reading.live_reader import LiveReader
from springtide_operator.cluster.reading.observer import Observer
from springtide_operator.cluster.watching.watches import new_cache
from springtide_operator.lifecycle.state.observed import Defaults

REVISION = "deployment.kubernetes.io/revision"
CREATED = "2026-03-01T12:00:00Z"
LABELS = {"app": "ranker"}


def raw(name, revision, **changes):
    metadata = {"namespace": "shop", "name": name, "uid": name, "resourceVersion": "1"}
    metadata |= {"annotations": {REVISION: revision}, "creationTimestamp": CREATED}
    container = {"name": "server", "image": "server"}
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [container]}}
    spec = {"replicas": 2, "selector": {"matchLabels": LABELS}, "template": template}
    return {"metadata": metadata | changes, "spec": spec, "status": {"unavailableReplicas": 1}}


class Server:
    clock = SimpleNamespace(now=lambda: None)

    async def get(self, kind, namespace, name):
        assert (kind, name) == (DEPLOYMENT, "ranker")
        return raw(name, "no number")

    async def list_all(self, kind, namespace, **_):
        owner = {"uid": "ranker", "kind": "Deployment", "name": "ranker", "controller": True}
        made = [raw("a", "1", ownerReferences=[owner]), raw("b", "x", ownerReferences=[owner])]
        return SimpleNamespace(items=made if kind == REPLICA_SET else [])


@pytest.mark.survives(
    "Deployments",
    "the revision that a client writes to a Deployment or its ReplicaSets is no number",
    "it counts as none; the update is reconciled, and can be rolled back",
)
async def test_a_revision_that_is_no_number_does_not_stop_an_update():
    update = yaml.safe_load(MINIMAL.read_text())
    place = {"namespace": "shop", "uid": "u", "resourceVersion": "1", "creationTimestamp": CREATED}
    update["metadata"] |= place
    reports, samples = SimpleNamespace(of=lambda *_: None), SimpleNamespace(of=lambda *_: ())
    cache, defaults = new_cache(), Defaults("trainer", "http://progress")
    cache.stores[UPDATE].update_from_watch(update)
    observer = Observer(cache, LiveReader(Server()), reports, samples, defaults, {})
    (target,) = (await observer.observe("shop", "ranker")).targets
    assert target.uid == "ranker"
