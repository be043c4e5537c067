"""spec.active of a Workload: the operator undoes only what it did, and Kueue's Jobs are Kueue's."""

from datetime import UTC, datetime

import pytest
from cluster import workloads
from cluster.actuators import actuator_of
from cluster.workloads import workload

from springtide_api.objects import parse_update
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import JOB, UPDATE, WORKLOAD
from springtide_operator.cluster.reading.workload_reader import observed_workload
from springtide_operator.lifecycle.queues.actions import ActivateWorkload, DeactivateWorkload
from springtide_operator.lifecycle.state.plan import SuspendJob

pytestmark = pytest.mark.apiserver

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SUSPENDED, RESUMED = "springtide.dev/suspended", "springtide.dev/resumed"


@pytest.fixture
async def actuator(client, kinds, namespace):
    workloads.install(kinds)
    return await actuator_of(client, namespace)


class Scene:
    """A Workload, and what is done to it."""

    def __init__(self, actuator, client, namespace):
        self.actuator, self.client, self.namespace = actuator, client, namespace

    async def create(self, **annotations):
        body = workload(self.namespace, "train", "u1")
        body["metadata"]["annotations"] = annotations
        made = await self.client.create(WORKLOAD, body)
        self.name, self.uid = made["metadata"]["name"], made["metadata"]["uid"]
        self.actuator.cache.insert(WORKLOAD, made)

    async def deactivate(self):
        await self._execute(DeactivateWorkload(self.name, self.uid))

    async def activate(self):
        await self._execute(ActivateWorkload(self.name, self.uid, NOON))

    async def _execute(self, action):
        meta = parse_update(self.actuator.cache.get(UPDATE, self.namespace, "ranker")).metadata
        await self.actuator.execute(meta, action)

    async def by_another(self, path, value):
        operations = [{"op": "add", "path": path, "value": value}]
        place = self.namespace, self.name
        return await self.client.patch(WORKLOAD, *place, operations, manager="kueue")

    async def live(self):
        return await self.client.get(WORKLOAD, self.namespace, self.name)

    @property
    def cached(self):
        return observed_workload(self.actuator.cache.get(WORKLOAD, self.namespace, self.name))


@pytest.fixture
async def scene(actuator, client, namespace):
    return Scene(actuator, client, namespace)


@pytest.mark.parametrize("annotations", [{}, {"kueue.x-k8s.io/other": "kept"}])
async def test_a_workload_is_deactivated_and_activated_and_nothing_else_of_it_changes(
    scene, annotations
):
    await scene.create(**annotations)
    before = await scene.live()
    await scene.deactivate()
    after = await scene.live()
    assert after["spec"] == {**before["spec"], "active": False}
    assert after["metadata"]["annotations"] == {**annotations, SUSPENDED: "true"}
    assert (scene.cached.active, scene.cached.deactivated_by_us) == (False, True)
    await scene.activate()
    after = await scene.live()
    assert after["spec"] == before["spec"]
    assert after["metadata"]["annotations"] == {**annotations, RESUMED: "2026-03-01T12:00:00Z"}
    assert (scene.cached.active, scene.cached.resumed) == (True, NOON)
    for key in ("labels", "ownerReferences", "uid"):
        assert after["metadata"][key] == before["metadata"][key]


async def test_what_kueue_deactivated_is_neither_claimed_nor_activated(scene):
    await scene.create()
    await scene.by_another("/spec/active", False)
    with pytest.raises(errors.Conflict):
        await scene.deactivate()
    assert SUSPENDED not in (await scene.live())["metadata"].get("annotations", {})
    assert not scene.cached.active, "it was read for the next decision"
    with pytest.raises(errors.Conflict):
        await scene.activate()
    assert not (await scene.live())["spec"]["active"]


async def test_an_annotation_that_was_not_seen_is_not_lost(scene):
    await scene.create()
    await scene.by_another("/metadata/annotations", {"kueue.x-k8s.io/other": "new"})
    with pytest.raises(errors.Conflict):
        await scene.deactivate()
    await scene.deactivate()
    annotations = (await scene.live())["metadata"]["annotations"]
    assert annotations == {"kueue.x-k8s.io/other": "new", SUSPENDED: "true"}


async def test_another_workload_of_that_name_is_left_alone(scene, client, namespace):
    await scene.create()
    await client.delete(WORKLOAD, namespace, scene.name, uid=scene.uid)
    await client.create(WORKLOAD, workload(namespace, "train", "u1"))
    with pytest.raises(errors.Conflict):
        await scene.deactivate()
    assert (await scene.live())["spec"]["active"]


@pytest.mark.survives(
    "Queues",
    "a Job gets the label of a queue between the operator's read and its write",
    "the operator neither suspends nor resumes it",
)
@pytest.mark.parametrize("suspend", [True, False])
async def test_a_job_in_a_queue_is_neither_suspended_nor_resumed(scene, client, suspend):
    labels = {"springtide.dev/stage": "train"}
    mark = {} if suspend else {SUSPENDED: "true"}
    metadata = {"namespace": scene.namespace, "name": "job", "labels": labels, "annotations": mark}
    container = {"name": "trainer", "image": "trainer"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    body = {"metadata": metadata, "spec": {"suspend": not suspend, "template": template}}
    made = await client.create(JOB, body)
    scene.actuator.cache.insert(JOB, made)
    label = [
        {"op": "add", "path": "/metadata/labels/kueue.x-k8s.io~1queue-name", "value": "default"}
    ]
    await client.patch(JOB, scene.namespace, "job", label, manager="kueue")
    with pytest.raises(errors.Conflict):
        await scene._execute(SuspendJob("job", made["metadata"]["uid"], suspend=suspend))
    assert (await client.get(JOB, scene.namespace, "job"))["spec"]["suspend"] is not suspend
