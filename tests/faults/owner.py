"""The owner of a served Deployment: manifest, kubectl commands, and the objects afterwards."""

import asyncio
import json

from faults.directing import directed
from faults.life import LIFE, play
from patience import within

from springtide_operator.cluster.api.kinds import DEPLOYMENT, REPLICA_SET

BACK = 60
"""Seconds in which what was wiped is put back: an unlabelled target is looked at every 30 s."""


def ranker(scene, *env, **spec):
    """The manifest of the Deployment as its owner keeps it."""
    container = {"name": "server", "image": "server", **({"env": list(env)} if env else {})}
    template = {"metadata": {"labels": {"app": "ranker"}}, "spec": {"containers": [container]}}
    selector = {"matchLabels": {"app": "ranker"}}
    return json.dumps(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"namespace": scene.namespace, "name": "ranker"},
            "spec": {"replicas": 2, "selector": selector, "template": template, **spec},
        }
    )


async def serving(ground, *write_hooks, **changes):
    """A scene whose first generation is live."""
    scene = await directed(ground)
    await scene.declare(**changes)
    await scene.start(*write_hooks)
    await play(scene, LIFE[:2])
    return scene


async def run(kinds, *arguments, **options):
    return await asyncio.to_thread(kinds.kubectl, *arguments, **options)


def variables(deployment):
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value") for each in container.get("env") or []}


async def carries_live(scene, seconds=BACK):
    """Wait until the Deployment serves what is live again."""
    artifact = scene.generation(scene.update_status["live"]["number"])["artifact"]
    wanted = {"MODEL_URI": artifact["uri"], "MODEL_DIGEST": artifact["servedDigest"]}

    async with within(seconds):
        while not wanted.items() <= variables(await scene.deployment()).items():
            await asyncio.sleep(0.2)


def applies(recorder):
    """Applies to Deployments, from the moment at which they are sent.

    A watch may show what an apply did before its own client has read the answer.
    """
    return [path for verb, path in recorder.sent if verb == "PATCH" and "/deployments/" in path]


async def remember_revision(scene, number):
    """Keep the template as the Deployment controller does: `kubectl rollout undo` needs it."""
    deployment = await scene.deployment()
    labels = {**deployment["spec"]["template"]["metadata"]["labels"], "pod-template-hash": "h"}
    template = json.loads(json.dumps(deployment["spec"]["template"]))
    template["metadata"]["labels"] = labels
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "ranker", "controller": True}
    revision = {"deployment.kubernetes.io/revision": str(number)}
    metadata = {"namespace": scene.namespace, "name": "ranker", "annotations": revision}
    await scene.client.apply(DEPLOYMENT, {"metadata": metadata}, manager="controller", force=True)
    return await scene.client.create(
        REPLICA_SET,
        {
            "metadata": {
                "namespace": scene.namespace,
                "name": f"ranker-{number}",
                "labels": labels,
                "annotations": {"deployment.kubernetes.io/revision": str(number)},
                "ownerReferences": [{**owner, "uid": deployment["metadata"]["uid"]}],
            },
            "spec": {
                "replicas": 0,
                "selector": {"matchLabels": {"pod-template-hash": "h", "app": "ranker"}},
                "template": template,
            },
        },
    )
