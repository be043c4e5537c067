"""Plays the Job controller, the kubelet and the Deployment controller on a bare API server.

Jobs end with the result that the data gives, as the world without a cluster computes it; a
Deployment's pods are available at once. Tests may hold Jobs back or let them fail.
"""

import asyncio
import contextlib
import itertools
import json

from lifecycle.world import World

from springtide_api.contract import Result, RunFile
from springtide_api.names import ANNOTATION_RUN
from springtide_api.objects import parse_generation
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import DEPLOYMENT, GENERATION, JOB, POD
from springtide_operator.lifecycle.state.plan import StartJob

IMAGE_ID = f"registry.example/trainer@sha256:{'ab' * 32}"

_numbers = itertools.count(1)


class StandIns:
    def __init__(self, client, namespace):
        self.client, self.namespace = client, namespace
        self.world = World()
        self._ever = {}
        self.running = {}
        """Pods that run, by the uid of their Job."""
        self._began = {}
        """When each pod that runs began to, by its uid."""
        self.held = set()
        """Stages whose Jobs do not end."""
        self.refused = {}
        """Stages whose trainers refuse their input: exit code and Failure."""
        self.pods_ready = True
        """Whether the pods of Deployments become available."""
        self.unready = set()
        """Deployments whose pods do not become available all the same."""

    @property
    def jobs_ever(self):
        return list(self._ever.values())

    async def run(self):
        while True:
            with contextlib.suppress(errors.ApiError):
                await self.turn()
            await asyncio.sleep(0.05)

    async def turn(self):
        for job in (await self.client.list_all(JOB, self.namespace)).items:
            self._ever.setdefault(job["metadata"]["uid"], job)
            conditions = (job.get("status") or {}).get("conditions")
            if not conditions and self.stage(job) not in self.held:
                await self.end(job)
        for deployment in (await self.client.list_all(DEPLOYMENT, self.namespace)).items:
            await self.roll(deployment)

    def stage(self, job):
        return job["metadata"]["labels"]["springtide.dev/stage"]

    async def end(self, job):
        template = job["spec"]["template"]
        run = RunFile.model_validate_json(template["metadata"]["annotations"][ANNOTATION_RUN])
        generations = (await self.client.list_all(GENERATION, self.namespace)).items
        self.world.generations = {
            raw["metadata"]["name"]: parse_generation(raw) for raw in generations
        }
        if run.stage in self.refused:
            await self.refuse(job, run, *self.refused[run.stage])
            return
        result = self.world._result(StartJob(run=run, image="trainer"))
        await self.pod(job, "Succeeded", 0, json.dumps(result.plain()))
        now = self.client.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        status = {
            "startTime": now,
            "completionTime": now,
            "succeeded": 1,
            "conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": now}
                for kind in ("SuccessCriteriaMet", "Complete")
            ],
        }
        await self.status(JOB, job, status)

    async def refuse(self, job, run, code, failure):
        """Let a Job's pod end as a trainer that refuses its input."""
        said = Result(job=run.job, stage=run.stage, number=run.number, ok=False, failure=failure)
        await self.pod(job, "Failed", code, json.dumps(said.plain()))
        now = self.client.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        ended = {"status": "True", "reason": "BackoffLimitExceeded", "lastTransitionTime": now}
        kinds = ("FailureTarget", "Failed")
        conditions = [{"type": kind, **ended} for kind in kinds]
        await self.status(JOB, job, {"startTime": now, "failed": 1, "conditions": conditions})

    async def pod(self, job, phase, code, message, *, began=""):
        """Make the pod of a Job, or bring the one that runs to its end."""
        made = self.running.pop(job["metadata"]["uid"], None) or await self._pod(job)
        return await self.end_pod(made, phase, code, message, began=began)

    async def end_pod(self, made, phase, code, message, *, began=""):
        """Let a pod run, or end with an exit code."""
        now = self.client.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        uid = made["metadata"]["uid"]
        began = self._began[uid] = began or self._began.get(uid, now)
        times = {"startedAt": began, "finishedAt": now}
        ended = {"terminated": {"exitCode": code, "message": message, **times}}
        state = ended if code is not None else {"running": {"startedAt": began}}
        container = {
            "name": "trainer",
            "image": "trainer",
            "imageID": IMAGE_ID,
            "ready": False,
            "restartCount": 0,
            "state": state,
        }
        await self.status(POD, made, {"phase": phase, "containerStatuses": [container]})
        return made

    async def _pod(self, job, **labels):
        metadata = job["metadata"]
        return await self.client.create(
            POD,
            {
                "metadata": {
                    "namespace": self.namespace,
                    "name": f"{metadata['name']}-{next(_numbers)}",
                    "labels": {
                        **job["spec"]["template"]["metadata"]["labels"],
                        "batch.kubernetes.io/job-name": metadata["name"],
                        **labels,
                    },
                    "ownerReferences": [
                        {
                            "apiVersion": "batch/v1",
                            "kind": "Job",
                            "name": metadata["name"],
                            "uid": metadata["uid"],
                            "controller": True,
                        }
                    ],
                },
                "spec": {
                    "restartPolicy": "Never",
                    "serviceAccountName": "default",
                    "containers": [{"name": "trainer", "image": "trainer"}],
                },
            },
        )

    async def roll(self, deployment):
        generation = deployment["metadata"]["generation"]
        if (deployment.get("status") or {}).get("observedGeneration") == generation:
            return
        if not self.pods_ready or deployment["metadata"]["name"] in self.unready:
            return
        wanted = deployment["spec"]["replicas"]
        counted = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
        await self.status(
            DEPLOYMENT,
            deployment,
            {"observedGeneration": generation, **dict.fromkeys(counted, wanted)},
        )

    async def status(self, kind, raw, status):
        metadata = raw["metadata"]
        body = {"metadata": {"namespace": self.namespace, "name": metadata["name"]}}
        await self.client.apply(
            kind, {**body, "status": status}, manager="stand-in", force=True, subresource="status"
        )
