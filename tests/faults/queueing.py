"""A small Kueue on the API server: it makes Workloads of Jobs in a queue, admits and preempts.

Jobs are suspended and resumed by it alone; what the operator writes to a Job or Workload is noted.
"""

import asyncio
import contextlib

from cluster.workloads import condition, workload
from faults.directing import unless_gone

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import JOB, POD, WORKLOAD

QUEUE = "kueue.x-k8s.io/queue-name"
NO_QUOTA = "couldn't assign flavors to pod set main: insufficient unused quota"
PREEMPTED = "Preempted to accommodate a workload (UID: 17, JobUID: 18)"


class Kueue:
    """The controllers of one scene; `admits` says whether there is quota."""

    def __init__(self, scene):
        self.scene, self.client = scene, scene.client
        self.admits = False
        self.preempts = False
        """Whether admitted Jobs lose their place."""

    async def run(self):
        """Act until cancelled."""
        while True:
            with contextlib.suppress(errors.ApiError):
                await self.turn()
            await asyncio.sleep(0.05)

    async def turn(self):
        for job in (await self.client.list_all(JOB, self.scene.namespace)).items:
            if (job["metadata"].get("labels") or {}).get(QUEUE):
                await unless_gone(self._reconcile(job))

    async def workload(self, job):
        """The Workload of a Job; None: there is none yet."""
        found = (await self.client.list_all(WORKLOAD, self.scene.namespace)).items
        uid = job["metadata"]["uid"]
        own = [w for w in found if w["metadata"]["labels"]["kueue.x-k8s.io/job-uid"] == uid]
        return next(iter(own), None)

    async def _reconcile(self, job):
        held = await self.workload(job)
        if held is None:
            place = self.scene.namespace, job["metadata"]["name"], job["metadata"]["uid"]
            await self.client.create(WORKLOAD, workload(*place))
            return
        if (job.get("status") or {}).get("conditions"):
            return
        if not held["spec"]["active"]:
            await self._stop(job, held, "Deactivated", "The workload is deactivated")
        elif self.preempts and not job["spec"].get("suspend"):
            await self._stop(job, held, "Preempted", PREEMPTED)
        elif self.admits and job["spec"].get("suspend"):
            await self._report(held, QuotaReserved=(True, "QuotaReserved", "Quota reserved"))
            await self._suspend(job, False)
        elif job["spec"].get("suspend") and not _evicted(held):
            await self._report(held, QuotaReserved=(False, "Pending", NO_QUOTA))

    async def _stop(self, job, held, reason, message):
        if not _evicted(held):
            await self._report(held, Evicted=(True, reason, message))
        if not job["spec"].get("suspend"):
            await self._suspend(job, True)
        if pod := self.scene.running.pop(job["metadata"]["uid"], None):
            metadata = pod["metadata"]
            place = self.scene.namespace, metadata["name"]
            await self.client.delete(POD, *place, uid=metadata["uid"])

    async def _suspend(self, job, suspend):
        operation = {"op": "add", "path": "/spec/suspend", "value": suspend}
        place = self.scene.namespace, job["metadata"]["name"]
        await self.client.patch(JOB, *place, [operation], manager="kueue")

    async def _report(self, held, **conditions):
        now = self.scene.now()
        said = [condition(kind, *words, now) for kind, words in conditions.items()]
        known = [(c["type"], c["status"], c["message"]) for c in _conditions(held)]
        if [(c["type"], c["status"], c["message"]) for c in said] != known:
            await self.scene.status(WORKLOAD, held, {"conditions": said})


def _conditions(held):
    return (held.get("status") or {}).get("conditions") or []


def _evicted(held):
    return any(c["type"] == "Evicted" and c["status"] == "True" for c in _conditions(held))


class Witness:
    """Notes the operator's patches of Jobs and of Workloads."""

    def __init__(self):
        self.jobs, self.workloads = [], []

    async def before_write(self, number, verb, path):
        if verb == "PATCH" and "/jobs/" in path:
            self.jobs.append(path)
        if verb == "PATCH" and "/workloads/" in path:
            self.workloads.append(path)

    async def after_write(self, number, verb, path):
        pass
