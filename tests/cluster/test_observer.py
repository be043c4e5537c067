"""What is seen of a Deployment while its controller is not done with a change yet."""

from pathlib import Path

import pytest
import yaml

from springtide_api.generation.spec import GenerationSpec, UpdateRef
from springtide_operator.cluster.api.kinds import (
    DEPLOYMENT,
    GENERATION,
    JOB,
    POD,
    REPLICA_SET,
    UPDATE,
)
from springtide_operator.cluster.reading.live_reader import LiveReader
from springtide_operator.cluster.reading.observer import Observer
from springtide_operator.cluster.watching.watches import new_cache
from springtide_operator.lifecycle.rollout.availability import new_pods
from springtide_operator.lifecycle.state.observed import Defaults
from springtide_operator.lifecycle.state.plan import CreateGeneration
from springtide_operator.lifecycle.state.recipe import recipe, recipe_hash
from springtide_operator.manifests import identity

pytestmark = pytest.mark.apiserver

MINIMAL = Path(__file__).parents[1] / "api" / "minimal.yaml"
REVISION = "deployment.kubernetes.io/revision"
TEMPLATE = {
    "metadata": {"labels": {"app": "ranker"}},
    "spec": {"containers": [{"name": "server", "image": "server"}]},
}


class NobodyReports:
    def of(self, namespace, job):
        return None


class NothingIsMeasured:
    def of(self, namespace, update):
        return ()


class Owner:
    """The Deployment controller, one step at a time."""

    def __init__(self, client, namespace):
        self.client = client
        self.namespace = namespace

    def named(self, name, **metadata):
        return {"metadata": {"namespace": self.namespace, "name": name, **metadata}}

    async def deploy(self):
        selector = {"matchLabels": {"app": "ranker"}}
        spec = {"replicas": 2, "selector": selector, "template": TEMPLATE}
        return await self.client.create(DEPLOYMENT, {**self.named("ranker"), "spec": spec})

    async def replica_set(self, revision, *, ready):
        deployment = await self.client.get(DEPLOYMENT, self.namespace, "ranker")
        selector = {"matchLabels": {"app": "ranker", "revision": str(revision)}}
        template = {**TEMPLATE, "metadata": {"labels": selector["matchLabels"]}}
        made = await self.client.create(
            REPLICA_SET,
            {
                **self.named(
                    f"ranker-{revision}",
                    labels={"app": "ranker"},
                    annotations={REVISION: str(revision)},
                    ownerReferences=[owner("Deployment", deployment)],
                ),
                "spec": {"replicas": 2, "selector": selector, "template": template},
            },
        )
        for number in range(2):
            await self.pod(made, f"ranker-{revision}-{number}", template, ready=ready)

    async def pod(self, replica_set, name, template, *, ready):
        pod = self.named(
            name,
            labels=template["metadata"]["labels"],
            ownerReferences=[owner("ReplicaSet", replica_set)],
        )
        await self.client.create(POD, {**pod, "spec": template["spec"]})
        status = {"conditions": [{"type": "Ready", "status": str(ready)}]}
        await self.set(POD, name, "/status", status, subresource="status")

    async def change(self):
        path = "/spec/template/metadata/annotations"
        return await self.set(DEPLOYMENT, "ranker", path, {"example.com/generation": "1"})

    async def say(self, revision, **status):
        at, numbered = "/metadata/annotations", {REVISION: str(revision)}
        raw = await self.set(DEPLOYMENT, "ranker", at, numbered, subresource="status")
        status["observedGeneration"] = raw["metadata"]["generation"]
        return await self.set(DEPLOYMENT, "ranker", "/status", status, subresource="status")

    async def set(self, kind, name, path, value, **options):
        operations = [{"op": "add", "path": path, "value": value}]
        return await self.client.patch(
            kind, self.namespace, name, operations, manager="controller", **options
        )


def owner(kind, raw):
    metadata = raw["metadata"]
    reference = {"apiVersion": "apps/v1", "kind": kind, "controller": True}
    return {**reference, "name": metadata["name"], "uid": metadata["uid"]}


@pytest.fixture
async def observer(client, kinds, namespace):
    """An observer of an update of the Deployment ranker."""
    cache = new_cache()
    update = yaml.safe_load(MINIMAL.read_text())
    update["metadata"]["namespace"] = namespace
    cache.insert(UPDATE, await client.create(UPDATE, update))
    defaults = Defaults("image", "http://progress")
    reports, samples = NobodyReports(), NothingIsMeasured()
    return Observer(cache, LiveReader(client), reports, samples, defaults, {})


async def test_pods_of_the_template_before_never_count_as_new_ones(client, observer, namespace):
    owning = Owner(client, namespace)

    async def counted(deployment):
        observer.cache.insert(DEPLOYMENT, deployment)
        (target,) = (await observer.observe(namespace, "ranker")).targets
        return new_pods(target)

    await owning.deploy()
    await owning.replica_set(1, ready=True)
    pods = {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}
    assert await counted(await owning.say(1, **pods)) == 2
    await counted(await owning.change())
    await owning.replica_set(2, ready=False)
    pods |= {"replicas": 4, "unavailableReplicas": 2}
    assert await counted(await owning.say(2, **pods)) == 0


async def test_what_a_target_of_before_serves_is_known_until_it_is_let_go(
    client, observer, namespace
):
    digest = f"sha256:{'1' * 64}"
    template = {**TEMPLATE, "metadata": {"labels": {"app": "old"}}}
    template["metadata"]["annotations"] = {"springtide.dev/digest": digest}
    body = {
        "metadata": {
            "namespace": namespace,
            "name": "old",
            "labels": {"springtide.dev/update": "ranker"},
        },
        "spec": {"selector": {"matchLabels": {"app": "old"}}, "template": template},
    }
    old = await client.create(DEPLOYMENT, body)
    observer.cache.insert(DEPLOYMENT, old)
    assert (await observer.observe(namespace, "ranker")).digests_elsewhere == {digest}
    observer.cache.remove(DEPLOYMENT, namespace, "old", old["metadata"]["uid"])
    assert (await observer.observe(namespace, "ranker")).digests_elsewhere == set()


async def test_a_job_of_a_second_look_that_no_watch_told_of_yet_is_not_taken_for_gone(
    client, observer, namespace
):
    container = {"name": "trainer", "image": "trainer"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    job = await client.create(
        JOB,
        {
            "metadata": {
                "namespace": namespace,
                "name": "ranker-g2-evaluate-2",
                "labels": {"springtide.dev/update": "ranker", "springtide.dev/stage": "evaluate"},
            },
            "spec": {"template": template},
        },
    )
    snapshot = recipe(await observer.observe(namespace, "ranker"))
    spec = GenerationSpec(
        update_ref=UpdateRef(name="ranker"),
        number=2,
        origin="Imported",
        initial=snapshot.model.initial,
        recipe=snapshot,
        recipe_hash=recipe_hash(snapshot),
    )
    kept = {key: job["metadata"][key] for key in ("namespace", "uid", "resourceVersion")}
    created = job["metadata"]["creationTimestamp"]
    uid = job["metadata"]["uid"]
    evaluation = {"job": job["metadata"]["name"], "jobUid": uid, "attempt": 2}
    generation = {
        "metadata": {**kept, "name": "ranker-g2", "creationTimestamp": created},
        "spec": spec.plain(),
        "status": {"verdict": "Inconclusive", "evaluation": evaluation},
    }
    observer.cache.insert(GENERATION, generation)
    seen = await observer.observe(namespace, "ranker")
    assert [each.uid for each in seen.jobs] == [uid]


async def test_a_generation_that_no_watch_told_of_yet_is_not_taken_for_gone(
    client, observer, namespace
):
    seen = await observer.observe(namespace, "ranker")
    snapshot, update = recipe(seen), seen.update.metadata
    spec = GenerationSpec(
        update_ref=UpdateRef(name="ranker"),
        number=0,
        origin="Imported",
        initial=snapshot.model.initial,
        recipe=snapshot,
        recipe_hash=recipe_hash(snapshot),
    )
    made = CreateGeneration("ranker-g0", spec, owned=False)
    await client.create(GENERATION, identity.generation(update, made))
    job = {
        "metadata": {
            "namespace": namespace,
            "name": "ranker-g0-import-1",
            "uid": "job",
            "resourceVersion": "1",
            "creationTimestamp": "2026-03-01T12:00:00Z",
            "labels": {**identity.labels(update, 0), "springtide.dev/stage": "import"},
            "ownerReferences": [identity.owner_reference(update)],
        },
        "spec": {"suspend": True},
    }
    observer.cache.insert(JOB, job)
    seen = await observer.observe(namespace, "ranker")
    assert [each.metadata.name for each in seen.generations] == ["ranker-g0"]
    gone = seen.generations[0].metadata
    await client.delete(GENERATION, namespace, gone.name, uid=gone.uid)
    observer.cache.remove(GENERATION, namespace, gone.name, gone.uid)
    assert (await observer.observe(namespace, "ranker")).generations == ()


async def test_an_autoscaler_at_work_makes_no_reads_of_replica_sets(
    client, observer, namespace, monkeypatch
):
    owning, reads = Owner(client, namespace), []
    list_all = client.list_all

    async def counting(kind, *arguments, **selectors):
        reads.append(kind)
        return await list_all(kind, *arguments, **selectors)

    monkeypatch.setattr(client, "list_all", counting)
    await owning.deploy()
    await owning.replica_set(1, ready=False)
    for replicas in (2, 3, 4):
        await owning.set(DEPLOYMENT, "ranker", "/spec/replicas", replicas)
        observer.cache.insert(DEPLOYMENT, await owning.say(1, replicas=2, unavailableReplicas=2))
        await observer.observe(namespace, "ranker")
    assert reads.count(REPLICA_SET) == 1
    observer.cache.insert(DEPLOYMENT, await owning.say(1, replicas=4))
    observer.live_reader._reads.clear()
    await observer.observe(namespace, "ranker")
    assert reads.count(REPLICA_SET) == 1
