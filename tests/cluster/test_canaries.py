"""The Deployment of a canary on a real API server: written, read, and never taken for a target."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from lifecycle.declared import SPEC

from springtide_api.objects import parse_update
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import DEPLOYMENT, UPDATE
from springtide_operator.cluster.reading.live_reader import LiveReader
from springtide_operator.cluster.reading.observed_targets import observed_target
from springtide_operator.cluster.reading.observer import Observer
from springtide_operator.cluster.watching.watches import new_cache
from springtide_operator.cluster.writing.actuator import Actuator
from springtide_operator.cluster.writing.refused import Refused
from springtide_operator.lifecycle.state.needed_reads import routed_targets
from springtide_operator.lifecycle.state.observed import Defaults
from springtide_operator.lifecycle.state.plan import ApplyCanary, DeleteCanary, Serving

pytestmark = pytest.mark.apiserver

NEW = Serving(2, "sha256:" + "2" * 64, "file:///models/2")
CANARY = {"type": "Canary", "canary": {"steps": [{"weight": 50, "duration": "1m"}]}}


def owned(namespace, name="ranker"):
    labels = {"app": name}
    container = {"name": "server", "image": "server", "env": [{"name": "THREADS", "value": "2"}]}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"namespace": namespace, "name": name}, "spec": spec}


@pytest.fixture
async def scene(client, kinds, namespace):
    """An update with a canary, its target, and what reads and writes them."""
    body = {"apiVersion": UPDATE.api_version, "kind": UPDATE.name}
    body["spec"] = {**SPEC, "rollout": {**SPEC["rollout"], "strategy": CANARY}}
    body["metadata"] = {"namespace": namespace, "name": "shop"}
    update = parse_update(await client.create(UPDATE, body))
    owner = await client.create(DEPLOYMENT, owned(namespace))
    (target,) = update.spec.rollout.targets
    seen = observed_target(target, owner, "shop", replica_sets=[], pods=[])
    action = ApplyCanary("ranker-canary", target, seen.uid, seen.template, NEW, 1)
    cache, reader = new_cache(), LiveReader(client)
    observer = Observer(
        cache, reader, SimpleNamespace(of=lambda *_: None), SimpleNamespace(of=lambda *_: ()),
        Defaults("image", "url"), {},
    )  # fmt: skip
    return SimpleNamespace(
        update=update,
        meta=update.metadata,
        owner=owner,
        action=action,
        observer=observer,
        actuator=Actuator(client, cache, reader, None, None, ""),
        read=lambda: client.get(DEPLOYMENT, namespace, "ranker-canary"),
    )


async def test_a_canary_is_created_scaled_and_deleted_and_the_target_stays_as_it_is(scene, client):
    await scene.actuator.execute(scene.meta, scene.action)
    made = await scene.read()
    again = replace(scene.action, uid=made["metadata"]["uid"])
    await scene.actuator.execute(scene.meta, again)
    assert (await scene.read())["metadata"]["resourceVersion"] == made["metadata"][
        "resourceVersion"
    ]

    scale = {"metadata": {"name": "ranker-canary", "namespace": scene.meta.namespace}}
    scale["spec"] = {"replicas": 7}
    await client.apply(DEPLOYMENT, scale, manager="person", force=True)
    await scene.actuator.execute(scene.meta, replace(again, replicas=2))
    assert (await scene.read())["spec"]["replicas"] == 2

    owner = await client.get(DEPLOYMENT, scene.meta.namespace, "ranker")
    assert owner["metadata"]["resourceVersion"] == scene.owner["metadata"]["resourceVersion"]
    await scene.actuator.execute(scene.meta, DeleteCanary("ranker-canary", again.uid))
    with pytest.raises(errors.NotFound):
        await scene.read()
    with pytest.raises(errors.Conflict):
        await scene.actuator.execute(scene.meta, again)


async def test_a_deployment_of_a_user_with_its_name_is_refused_and_left_alone(scene, client):
    taken = await client.create(DEPLOYMENT, owned(scene.meta.namespace, "ranker-canary"))
    with pytest.raises(Refused, match="NameCollision"):
        await scene.actuator.execute(scene.meta, scene.action)
    assert (await scene.read())["metadata"]["resourceVersion"] == taken["metadata"][
        "resourceVersion"
    ]


async def test_a_target_that_was_changed_since_the_decision_gives_no_canary(scene, client):
    changed = owned(scene.meta.namespace)
    changed["spec"]["template"]["spec"]["containers"][0]["image"] = "server:2"
    await client.apply(DEPLOYMENT, changed, manager="person", force=True)
    with pytest.raises(errors.Conflict):
        await scene.actuator.execute(scene.meta, scene.action)
    with pytest.raises(errors.NotFound):
        await scene.read()


async def test_what_was_written_is_observed_as_written_and_an_edit_is_seen(scene, client):
    action = replace(scene.action, route="shop", service="tower")
    await scene.actuator.execute(scene.meta, action)
    (canary,) = await scene.observer._canaries(scene.update, ())
    (routed,) = routed_targets(scene.update, (), [canary])
    assert (routed.target_ref.name, routed.http_route, routed.service) == (
        "ranker",
        "shop",
        "tower",
    )
    seen = canary.deployment
    assert (canary.of, canary.ours, canary.edited_by) == ("ranker", True, "")
    assert canary.made_from == seen.template == scene.action.template
    assert (seen.number, seen.digest, seen.desired) == (2, NEW.digest, 1)

    edited = {"metadata": {"name": "ranker-canary", "namespace": scene.meta.namespace}}
    container = {"name": "server", "image": "server:2"}
    edited["spec"] = {"template": {"spec": {"containers": [container]}}}
    raw = await client.apply(DEPLOYMENT, edited, manager="person", force=True)
    scene.actuator.cache.insert(DEPLOYMENT, raw)
    (canary,) = await scene.observer._canaries(scene.update, ())
    assert canary.edited_by == "person"
