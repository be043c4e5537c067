"""Writes to objects that others write, too: what was not seen is never overwritten."""

import pytest
from cluster.actuators import actuator_of

from springtide_api.objects import parse_update
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import GENERATION, JOB, UPDATE
from springtide_operator.lifecycle.state.plan import AdoptGeneration, SetFinalizer, SuspendJob

pytestmark = pytest.mark.apiserver

OURS, THEIRS = "springtide.dev/rollout", "example.com/theirs"
UID_LABEL = "springtide.dev/update-uid"


@pytest.fixture
async def actuator(client, kinds, namespace):
    """An actuator with an update that is observed as it was created."""
    return await actuator_of(client, namespace)


def seen(actuator, namespace):
    return parse_update(actuator.cache.get(UPDATE, namespace, "ranker"))


async def by_another(client, kind, namespace, name, *operations):
    return await client.patch(kind, namespace, name, list(operations), manager="another")


def add(path, value):
    return {"op": "add", "path": path, "value": value}


@pytest.mark.survives(
    "API server",
    "another client adds a finalizer to an update between the operator's read and its write",
    "the write is refused and the update is reconciled again; nothing is lost",
)
async def test_a_finalizer_that_was_not_seen_is_not_lost(actuator, client, namespace):
    update = seen(actuator, namespace).metadata
    await by_another(client, UPDATE, namespace, "ranker", add("/metadata/finalizers", [THEIRS]))
    with pytest.raises(errors.Conflict):
        await actuator.execute(update, SetFinalizer(present=True))
    update = seen(actuator, namespace).metadata
    assert update.finalizers == (THEIRS,), "it was read for the next decision"
    await actuator.execute(update, SetFinalizer(present=True))
    live = await client.get(UPDATE, namespace, "ranker")
    assert live["metadata"]["finalizers"] == [THEIRS, OURS]


async def test_a_finalizer_that_was_not_seen_stays_when_ours_goes(actuator, client, namespace):
    await actuator.execute(seen(actuator, namespace).metadata, SetFinalizer(present=True))
    update = seen(actuator, namespace).metadata
    await by_another(client, UPDATE, namespace, "ranker", add("/metadata/finalizers/-", THEIRS))
    with pytest.raises(errors.Conflict):
        await actuator.execute(update, SetFinalizer(present=False))
    await actuator.execute(seen(actuator, namespace).metadata, SetFinalizer(present=False))
    live = await client.get(UPDATE, namespace, "ranker")
    assert live["metadata"]["finalizers"] == [THEIRS]


async def left_behind(actuator, client, namespace, **metadata):
    """A generation of an update of that name before, as it was seen."""
    spec = (await client.get(UPDATE, namespace, "ranker"))["spec"]
    parts = ("model", "data", "training", "evaluation", "gate", "storage")
    snapshot = {part: spec.get(part, {}) for part in parts}
    digest = f"sha256:{'0' * 64}"
    body = {
        "apiVersion": GENERATION.api_version,
        "kind": GENERATION.name,
        "metadata": {"namespace": namespace, "name": "ranker-g0", **metadata},
        "spec": {
            "updateRef": {"name": "ranker"},
            "number": 0,
            "origin": "Imported",
            "initial": spec["model"]["initial"],
            "recipe": snapshot,
            "recipeHash": digest,
        },
    }
    made = await client.create(GENERATION, body)
    actuator.cache.insert(GENERATION, made)


@pytest.mark.parametrize("labels", [{}, {UID_LABEL: "before", "team": "search"}])
async def test_a_label_that_was_not_seen_is_not_lost(actuator, client, namespace, labels):
    await left_behind(actuator, client, namespace, labels=labels)
    changed = {**labels, "added": "later"}
    await by_another(client, GENERATION, namespace, "ranker-g0", add("/metadata/labels", changed))
    update = seen(actuator, namespace).metadata
    for _ in range(2):
        try:
            await actuator.execute(update, AdoptGeneration("ranker-g0", owned=False))
            break
        except errors.Conflict:
            continue
    live = await client.get(GENERATION, namespace, "ranker-g0")
    assert live["metadata"]["labels"] == {**changed, UID_LABEL: update.uid}


async def test_an_owner_that_is_not_ours_stays_and_that_of_the_update_before_goes(
    actuator, client, namespace
):
    kind = {"apiVersion": "springtide.dev/v1alpha1", "kind": "IncrementalUpdate"}
    before = {**kind, "name": "ranker", "uid": "before"}
    other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "other"}
    await left_behind(actuator, client, namespace, ownerReferences=[before])
    await by_another(
        client, GENERATION, namespace, "ranker-g0", add("/metadata/ownerReferences/-", other)
    )
    update = seen(actuator, namespace).metadata
    with pytest.raises(errors.Conflict):
        await actuator.execute(update, AdoptGeneration("ranker-g0", owned=True))
    await actuator.execute(update, AdoptGeneration("ranker-g0", owned=True))
    owners = (await client.get(GENERATION, namespace, "ranker-g0"))["metadata"]["ownerReferences"]
    assert [each["uid"] for each in owners] == ["other", update.uid]


async def test_a_job_is_resumed_only_while_it_says_that_the_operator_suspended_it(
    actuator, client, namespace
):
    container = {"name": "trainer", "image": "trainer"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    body = {"metadata": {"namespace": namespace, "name": "job"}, "spec": {"template": template}}
    made = await client.create(JOB, body)
    actuator.cache.insert(JOB, made)
    update, uid = seen(actuator, namespace).metadata, made["metadata"]["uid"]
    await actuator.execute(update, SuspendJob("job", uid, suspend=True))
    live = await client.get(JOB, namespace, "job")
    assert live["metadata"]["annotations"] == {"springtide.dev/suspended": "true"}
    remove = {"op": "remove", "path": "/metadata/annotations"}
    await by_another(client, JOB, namespace, "job", remove)
    with pytest.raises(errors.Conflict):
        await actuator.execute(update, SuspendJob("job", uid, suspend=False))
    assert (await client.get(JOB, namespace, "job"))["spec"]["suspend"]


async def test_what_the_api_server_finds_wrong_with_an_object_is_no_outdated_patch(
    client, actuator, namespace
):
    wrong = add("/metadata/finalizers", ["not a name"])
    with pytest.raises(errors.Invalid):
        await by_another(client, UPDATE, namespace, "ranker", wrong)
