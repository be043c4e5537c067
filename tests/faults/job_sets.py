"""A small JobSet controller on the API server, and the pods of a training on several nodes.

It makes the Job of each set, suspends and resumes it with the set, and says how it ended. What a
set that is gone leaves, it deletes, as the garbage collector would.
"""

import asyncio
import contextlib
import json
from datetime import timedelta

from cluster.job_sets import JOB_SET_UID, job_of
from faults.directing import unless_gone

from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import JOB, JOB_SET, POD

RAN = timedelta(hours=1)
"""How long each pod ran when it is first seen: what is lost of that is more than a test takes."""

APART_SECONDS = 0.3
"""Nodes report the ends of their pods at different times."""

ENDS = {"Complete": ("Completed", "AllJobsCompleted"), "Failed": ("Failed", "FailedJobs")}
DISRUPTED = {
    "reason": "PodFailurePolicy",
    "message": "Pod x has condition DisruptionTarget matching FailJob rule at index 0",
}


class JobSets:
    """The controllers of one scene, and its pods."""

    def __init__(self, scene):
        self.scene, self.client = scene, scene.client
        self.ever = {}
        """Every JobSet that ever was, by uid."""

    async def run(self):
        """Act until cancelled."""
        while True:
            with contextlib.suppress(errors.ApiError):
                await self.turn()
            await asyncio.sleep(0.05)

    async def turn(self):
        sets = {raw["metadata"]["uid"]: raw for raw in await self._all(JOB_SET)}
        self.ever |= sets
        jobs = {}
        for job in await self._all(JOB):
            (owner,) = job["metadata"].get("ownerReferences") or [{}]
            if owner.get("kind") == "JobSet":
                jobs[owner["uid"]] = job
        for uid, job in jobs.items():
            if uid not in sets:
                await unless_gone(self._delete(JOB, job))
        for pod in await self._all(POD):
            uid = (pod["metadata"].get("labels") or {}).get(JOB_SET_UID)
            if uid and uid not in sets:
                await unless_gone(self._delete(POD, pod))
        for uid, raw in sets.items():
            await unless_gone(self._reconcile(raw, jobs.get(uid)))

    async def _reconcile(self, raw, job):
        if job is None:
            await self.client.create(JOB, job_of(raw))
            return
        ended = [c for c in (job.get("status") or {}).get("conditions") or [] if c["type"] in ENDS]
        if ended:
            kind, reason = ENDS[ended[0]["type"]]
            await self._report(raw, kind, "True", reason)
            return
        suspend = bool(raw["spec"].get("suspend"))
        if bool(job["spec"].get("suspend")) != suspend:
            await self._suspend(job, suspend)
        suspended = [c for c in _conditions(raw) if c["type"] == "Suspended"]
        if suspend or suspended:
            await self._report(raw, "Suspended", "True" if suspend else "False", "Suspension")

    async def _suspend(self, job, suspend):
        operation = {"op": "add", "path": "/spec/suspend", "value": suspend}
        place = self.scene.namespace, job["metadata"]["name"]
        await self.client.patch(JOB, *place, [operation], manager="jobset")
        if suspend:
            for pod in await self._pods(job):
                await unless_gone(self._delete(POD, pod))

    async def _report(self, raw, kind, status, reason):
        known = _conditions(raw)
        if any((c["type"], c["status"]) == (kind, status) for c in known):
            return
        said = {"type": kind, "status": status, "reason": reason, "message": f"jobset: {reason}"}
        others = [c for c in known if c["type"] != kind]
        said["lastTransitionTime"] = self.scene.now()
        await self.scene.status(JOB_SET, raw, {"conditions": [*others, said]})

    async def _all(self, kind):
        return (await self.client.list_all(kind, self.scene.namespace)).items

    async def _pods(self, job):
        """Those of a Job, the first node's first."""
        own = [pod for pod in await self._all(POD) if _label(pod, "job-name") == _name(job)]
        return sorted(own, key=lambda pod: _label(pod, "job-completion-index"))

    async def _delete(self, kind, raw):
        metadata = raw["metadata"]
        place = self.scene.namespace, metadata["name"]
        await self.client.delete(kind, *place, uid=metadata["uid"])

    # What a test lets happen.

    async def run_pods(self, attempt, admission):
        """Let the pods of an attempt at generation 2 run, until all are in status.

        Args:
            attempt: its number.
            admission: how often it was resumed, its start included.

        Returns:
            Their Job.
        """
        scene = self.scene
        job = await scene.job("train", attempt, since=2)
        uid, nodes = job["metadata"]["uid"], job["spec"]["completions"]
        await scene.until(lambda _: not scene.started[uid]["spec"].get("suspend"))
        began = f"{self.client.clock.now() - RAN:%Y-%m-%dT%H:%M:%SZ}"
        for index in range(nodes):
            await scene.node_pod(job, index, began=began)
        recorded = nodes * admission
        await scene.until(lambda _: len(scene.generation(2)["training"]["pods"]) == recorded)
        return scene.started[uid]

    async def lose(self, job, index):
        """Evict the pod of a node: it is gone, and its Job fails."""
        for pod in await self._pods(job):
            if _label(pod, "job-completion-index") == str(index):
                await self._delete(POD, pod)
            else:
                await self.scene.end_pod(pod, "Failed", 1, "")
        now = {"status": "True", "lastTransitionTime": self.scene.now(), **DISRUPTED}
        conditions = [{"type": kind, **now} for kind in ("FailureTarget", "Failed")]
        status = {"startTime": self.scene.now(), "conditions": conditions}
        await self.scene.status(JOB, job, status)

    async def succeed(self, job):
        """Let all pods end well; the one of the first node says what was made.

        The set may be deleted before the others have ended.
        """
        message = json.dumps(await self.scene.result(job))
        for pod in await self._pods(job):
            await unless_gone(self.scene.end_pod(pod, "Succeeded", 0, message))
            message = ""
            await asyncio.sleep(APART_SECONDS)
        await unless_gone(self.scene.finish(job, "SuccessCriteriaMet", "Complete"))


def _name(raw):
    return raw["metadata"]["name"]


def _label(pod, name):
    return pod["metadata"]["labels"].get(f"batch.kubernetes.io/{name}")


def _conditions(raw):
    return (raw.get("status") or {}).get("conditions") or []
