"""The deployment controller with `maxSurge: 0, maxUnavailable: 1`, one pod at a time.

It keeps ReplicaSets, pods and the counts of the Deployment as Kubernetes does: an old pod ends
before its successor starts.
"""

from springtide_operator.cluster.api.kinds import DEPLOYMENT, POD, REPLICA_SET

REVISION = "deployment.kubernetes.io/revision"
STRATEGY = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


class Replacing:
    """The pods of one Deployment of a scene."""

    def __init__(self, scene, name="ranker"):
        self.scene, self.name = scene, name
        self.sets = {}
        """ReplicaSets by the digest of the model in their template."""
        self.pods = []
        """Each pod as digest, object and whether it is ready; the oldest first."""
        self.revision = 0
        self.current = ""
        self.made = 0

    async def declare_strategy(self):
        """Set the strategy as the owner of the Deployment."""
        metadata = {"namespace": self.scene.namespace, "name": self.name}
        body = {"metadata": metadata, "spec": {"strategy": STRATEGY}}
        await self.scene.client.apply(DEPLOYMENT, body, manager="owner", force=True)

    async def take_over(self):
        """Start from a Deployment whose pods all run its template."""
        await self.observe()
        for _ in range(2):
            await self._create()
            await self.get_ready(shown=False)
        await self.show()

    async def observe(self):
        """Observe a changed template: its ReplicaSet gets the next revision, no pod changes yet."""
        raw = await self._deployment()
        template, self.revision = raw["spec"]["template"], self.revision + 1
        self.current = template["metadata"]["annotations"]["springtide.dev/digest"]
        revision = {REVISION: str(self.revision)}
        if self.current in self.sets:
            known = self.sets[self.current]["metadata"]
            body = {"metadata": {**_place(known), "annotations": revision}}
            await self.scene.client.apply(REPLICA_SET, body, manager="stand-in", force=True)
        else:
            self.sets[self.current] = await self._replica_set(raw, template, revision)
        body = {"metadata": {**_place(raw["metadata"]), "annotations": revision}}
        await self.scene.client.apply(DEPLOYMENT, body, manager="stand-in", force=True)
        await self.show()

    async def replace(self):
        """End one old pod, one that is not ready first, and start its successor."""
        old = [pod for pod in self.pods if pod[0] != self.current]
        gone = min(old, key=lambda pod: pod[2])
        self.pods.remove(gone)
        metadata = gone[1]["metadata"]
        await self.scene.client.delete(
            POD, self.scene.namespace, metadata["name"], uid=metadata["uid"]
        )
        await self._create()
        await self.show()

    async def get_ready(self, *, shown=True):
        """Let the newest pod get ready."""
        digest, raw, _ = self.pods.pop()
        container = {"name": "server", "image": "server", "imageID": "", "restartCount": 0}
        running = {"running": {"startedAt": raw["metadata"]["creationTimestamp"]}}
        status = {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{**container, "ready": True, "state": running}],
        }
        await self.scene.status(POD, raw, status)
        self.pods.append((digest, raw, True))
        if shown:
            await self.show()

    async def show(self):
        """Write the counts of the Deployment."""
        raw = await self._deployment()
        ready = sum(pod[2] for pod in self.pods)
        updated = sum(pod[0] == self.current for pod in self.pods)
        complete = ready == updated == len(self.pods)
        reason = "NewReplicaSetAvailable" if complete else "ReplicaSetUpdated"
        counts = {"replicas": len(self.pods), "updatedReplicas": updated}
        counts |= {"readyReplicas": ready, "availableReplicas": ready}
        counts["unavailableReplicas"] = raw["spec"]["replicas"] - ready
        now = self.scene.client.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        progressing = {"type": "Progressing", "status": "True", "reason": reason}
        condition = {**progressing, "lastUpdateTime": now, "lastTransitionTime": now}
        status = {"observedGeneration": raw["metadata"]["generation"], **counts}
        await self.scene.status(DEPLOYMENT, raw, {**status, "conditions": [condition]})

    async def _deployment(self):
        return await self.scene.client.get(DEPLOYMENT, self.scene.namespace, self.name)

    async def _replica_set(self, deployment, template, annotations):
        self.made += 1
        labels = {**template["metadata"]["labels"], "pod-template-hash": str(self.made)}
        metadata = {
            "namespace": self.scene.namespace,
            "name": f"{self.name}-{self.made}",
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [_owner(DEPLOYMENT, deployment)],
        }
        own = {**template, "metadata": {**template["metadata"], "labels": labels}}
        spec = {"replicas": 2, "selector": {"matchLabels": labels}, "template": own}
        return await self.scene.client.create(REPLICA_SET, {"metadata": metadata, "spec": spec})

    async def _create(self):
        self.made += 1
        owner = self.sets[self.current]
        metadata = {
            "namespace": self.scene.namespace,
            "name": f"{self.name}-pod-{self.made}",
            "labels": owner["metadata"]["labels"],
            "ownerReferences": [_owner(REPLICA_SET, owner)],
        }
        spec = {"containers": [{"name": "server", "image": "server"}]}
        made = await self.scene.client.create(POD, {"metadata": metadata, "spec": spec})
        self.pods.append((self.current, made, False))


def _owner(kind, raw):
    metadata = raw["metadata"]
    place = {"apiVersion": kind.api_version, "kind": kind.name, "name": metadata["name"]}
    return {**place, "uid": metadata["uid"], "controller": True}


def _place(metadata):
    return {key: metadata[key] for key in ("namespace", "name")}
