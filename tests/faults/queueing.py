"""A small Kueue on the API server: it makes Workloads of Jobs in a queue, admits and preempts.

Jobs and JobSets are suspended and resumed by it alone; what the operator writes to them or to a
Workload is noted.
"""

import asyncio
import contextlib

from cluster.workloads import condition, workload
from faults.directing import unless_gone

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import JOB, POD, WORKLOAD

QUEUE = "kueue.x-k8s.io/queue-name"
NO_QUOTA = "couldn't assign flavors to pod set main: insufficient unused quota"
ENDED = frozenset({"Complete", "Completed", "Failed", "SuccessCriteriaMet", "FailureTarget"})
"""Conditions of a Job or a JobSet that ends."""
PREEMPTED = "Preempted to accommodate a workload (UID: 17, JobUID: 18)"


class Kueue:
    """The controllers of one scene; `admits` says whether there is quota.

    Args:
        scene: where.
        kinds: that it manages.
    """

    def __init__(self, scene, kinds=(JOB,)):
        self.scene, self.client, self.kinds = scene, scene.client, kinds
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
        for kind in self.kinds:
            for job in (await self.client.list_all(kind, self.scene.namespace)).items:
                if (job["metadata"].get("labels") or {}).get(QUEUE):
                    await unless_gone(self._reconcile(kind, job))

    async def workload(self, job):
        """The Workload of a Job or a JobSet; None: there is none yet."""
        found = (await self.client.list_all(WORKLOAD, self.scene.namespace)).items
        uid = job["metadata"]["uid"]
        own = [w for w in found if w["metadata"]["labels"]["kueue.x-k8s.io/job-uid"] == uid]
        return next(iter(own), None)

    def reports(self, words):
        """Whether the column Progress begins with these words."""
        return self.scene.update_status["progress"].get("summary", "").startswith(words)

    async def hold_and_release(self, job):
        """Suspend the update, and resume it once its Workload is not active, until it is again."""
        for suspend in (True, False):
            await self.scene.merge({"suspend": suspend})
            await asyncio.wait_for(self._until_active(job, not suspend), 60)

    async def _until_active(self, job, active):
        while True:
            held = await self.workload(job)
            mark = (held["metadata"].get("annotations") or {}).get("springtide.dev/suspended")
            if held["spec"]["active"] is active and mark == (None if active else "true"):
                return
            await asyncio.sleep(0.05)

    async def resumed(self, stage):
        """Wait until the newest Job of a stage is resumed; return it."""
        job = await self.scene.job(stage, since=2)
        uid = job["metadata"]["uid"]
        await self.scene.until(lambda scene: not scene.started[uid]["spec"].get("suspend"))
        assert job["metadata"]["name"] in self.scene.jobs()
        return self.scene.started[uid]

    async def _reconcile(self, kind, job):
        held = await self.workload(job)
        if held is None:
            place = self.scene.namespace, job["metadata"]["name"], job["metadata"]["uid"]
            await self.client.create(WORKLOAD, workload(*place, kind))
            return
        if any(each["type"] in ENDED for each in _conditions(job)):
            return
        if not held["spec"]["active"]:
            await self._stop(kind, job, held, "Deactivated", "The workload is deactivated")
        elif self.preempts and not job["spec"].get("suspend"):
            await self._stop(kind, job, held, "Preempted", PREEMPTED)
        elif self.admits and job["spec"].get("suspend"):
            await self._report(held, QuotaReserved=(True, "QuotaReserved", "Quota reserved"))
            await self._suspend(kind, job, False)
        elif job["spec"].get("suspend") and not _evicted(held):
            await self._report(held, QuotaReserved=(False, "Pending", NO_QUOTA))

    async def _stop(self, kind, job, held, reason, message):
        if not _evicted(held):
            await self._report(held, Evicted=(True, reason, message))
        if not job["spec"].get("suspend"):
            await self._suspend(kind, job, True)
        if pod := self.scene.running.pop(job["metadata"]["uid"], None):
            metadata = pod["metadata"]
            place = self.scene.namespace, metadata["name"]
            await self.client.delete(POD, *place, uid=metadata["uid"])

    async def _suspend(self, kind, job, suspend):
        operation = {"op": "add", "path": "/spec/suspend", "value": suspend}
        place = self.scene.namespace, job["metadata"]["name"]
        await self.client.patch(kind, *place, [operation], manager="kueue")

    async def _report(self, held, **conditions):
        now = self.scene.now()
        said = [condition(kind, *words, now) for kind, words in conditions.items()]
        known = [(c["type"], c["status"], c["message"]) for c in _conditions(held)]
        if [(c["type"], c["status"], c["message"]) for c in said] != known:
            await self.scene.status(WORKLOAD, held, {"conditions": said})


def _conditions(raw):
    return (raw.get("status") or {}).get("conditions") or []


def _evicted(held):
    return any(c["type"] == "Evicted" and c["status"] == "True" for c in _conditions(held))


class Witness:
    """Notes the operator's patches of Jobs and JobSets, and of Workloads."""

    def __init__(self):
        self.jobs, self.workloads = [], []

    async def before_write(self, number, verb, path):
        if verb == "PATCH" and ("/jobs/" in path or "/jobsets/" in path):
            self.jobs.append(path)
        if verb == "PATCH" and "/workloads/" in path:
            self.workloads.append(path)

    async def after_write(self, number, verb, path):
        pass
