"""A scenario under a test's control: Jobs wait or fail on request, pods stay unready, and the
garbage collector, which a bare API server lacks, deletes what a deleted owner leaves.
"""

import contextlib
import itertools
import json
import os

from faults.playing import Scene

from springtide_api.contract import RunFile
from springtide_api.names import ANNOTATION_RUN, LABEL_ATTEMPT, LABEL_GENERATION, LABEL_STAGE
from springtide_api.objects import parse_generation
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import (
    DEPLOYMENT,
    EVENT,
    GENERATION,
    JOB,
    NAMESPACE,
    POD,
    UPDATE,
)
from springtide_operator.lifecycle.state.plan import StartJob

OWNED = (JOB, POD, GENERATION)

_numbers = itertools.count(1)


class Directed(Scene):
    """One namespace in which nothing need go well. `held` stages do not end."""

    def changed(self, kind, raw):
        if kind == JOB:
            stage = _labels(raw).get(LABEL_STAGE)
            if stage is None or stage in self.held:
                self.started[raw["metadata"]["uid"]] = raw
                return
        super().changed(kind, raw)

    async def roll(self, deployment):
        if not deployment["spec"].get("paused"):
            await super().roll(deployment)

    async def release(self, *stages):
        """Let Jobs that were held back end; without stages all of them."""
        self.held -= set(stages or self.held)
        for name in self.jobs():
            job = self.ground.cache.get(JOB, self.namespace, name)
            if not (job.get("status") or {}).get("conditions") and self.stage(job) not in self.held:
                await unless_gone(self.end(job))

    async def make_ready(self):
        """Let pods get ready from now on."""
        self.pods_ready = True
        await unless_gone(self.roll(await self.deployment()))

    async def deployment(self, name="ranker"):
        return await self.client.get(DEPLOYMENT, self.namespace, name)

    async def update(self):
        return await self.client.get(UPDATE, self.namespace, "shop")

    async def job(self, stage, attempt=1, *, since=0, seconds=180.0):
        """Wait until the Job of an attempt is there, of this generation or a later one."""

        def found(_):
            every = [raw for raw in self.runs(stage) if attempt_of(raw) == attempt]
            return [raw for raw in every if int(_labels(raw).get(LABEL_GENERATION, 0)) >= since]

        await self.until(found, seconds)
        return found(self)[-1]

    def runs(self, stage):
        """Every Job that ever was of a stage, the oldest first."""
        return [raw for raw in self.started.values() if _labels(raw).get(LABEL_STAGE) == stage]

    async def events(self, reason):
        """Messages of the Events of a reason."""
        every = (await self.client.list_all(EVENT, self.namespace)).items
        return [raw["message"] for raw in every if raw["reason"] == reason]

    async def fail(self, job, code, message="", *, reason="Error", disrupted=False, began=""):
        """End a Job's one pod with an exit code, and with it the Job."""
        pod = await self.pod(job, "Running", None, "", began=began)
        ended = {"exitCode": code, "reason": reason, "message": message}
        if began:
            ended |= {"startedAt": began, "finishedAt": self.now()}
        container = {"name": "trainer", "image": "trainer", "imageID": "", "ready": False}
        state = {**container, "restartCount": 0, "state": {"terminated": ended}}
        status = {"phase": "Failed", "containerStatuses": [state]}
        if disrupted:
            status["conditions"] = [
                {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI"}
            ]
        await self.status(POD, pod, status)
        await self.finish(job, "FailureTarget", "Failed", reason="BackoffLimitExceeded")

    async def succeed(self, job, message):
        """End a Job's pod well, whatever it says."""
        await self.pod(job, "Succeeded", 0, message)
        await self.finish(job, "SuccessCriteriaMet", "Complete")

    async def node_pod(self, job, index, *, began=""):
        """Let the pod of a node of an Indexed Job run."""
        pod = await self._pod(job, **{"batch.kubernetes.io/job-completion-index": str(index)})
        return await self.end_pod(pod, "Running", None, "", began=began)

    async def result(self, job):
        """What the trainer of a Job would say, as JSON."""
        template = job["spec"]["template"]
        run = RunFile.model_validate_json(template["metadata"]["annotations"][ANNOTATION_RUN])
        generations = (await self.client.list_all(GENERATION, self.namespace)).items
        self.world.generations = {
            raw["metadata"]["name"]: parse_generation(raw) for raw in generations
        }
        return self.world._result(StartJob(run=run, image="trainer")).plain()

    def now(self):
        return self.client.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")

    async def finish(self, job, *conditions, reason=""):
        now = self.now()
        said = {"status": "True", "lastTransitionTime": now, "reason": reason, "message": reason}
        status = {"startTime": now, "conditions": [{"type": kind, **said} for kind in conditions]}
        if "Complete" in conditions:
            status |= {"completionTime": now, "succeeded": 1}
        await self.status(JOB, job, status)

    async def merge(self, spec):
        """Change the spec as a person does: a merge patch."""
        place = f"{UPDATE.path(self.namespace, 'shop')}?fieldManager=person"
        merge = "application/merge-patch+json"
        await self.client._write("PATCH", place, {"spec": spec}, merge)

    async def collect(self):
        """Delete what belongs to owners that are gone, as the garbage collector does."""
        for kind in OWNED:
            for raw in (await self.client.list_all(kind, self.namespace)).items:
                owners = raw["metadata"].get("ownerReferences") or []
                if owners and not [each for each in owners if await self._there(each)]:
                    await unless_gone(self._delete(kind, raw))

    async def _there(self, owner):
        kind = {"IncrementalUpdate": UPDATE, "Job": JOB}[owner["kind"]]
        try:
            held = await self.client.get(kind, self.namespace, owner["name"])
        except errors.NotFound:
            return False
        return held["metadata"]["uid"] == owner["uid"]

    async def _delete(self, kind, raw):
        metadata = raw["metadata"]
        await self.client.delete(kind, self.namespace, metadata["name"], uid=metadata["uid"])

    async def orphan(self):
        """Take the update's name off its dependents and let it go: `--cascade=orphan`."""
        uid = (await self.update())["metadata"]["uid"]
        for kind in (JOB, GENERATION):
            for raw in (await self.client.list_all(kind, self.namespace)).items:
                owners = raw["metadata"].get("ownerReferences") or []
                if uid in [each["uid"] for each in owners]:
                    await self._patch(kind, raw["metadata"]["name"], "/metadata/ownerReferences")
        await self.until(lambda _: self._finalizers() == ["orphan"])
        await self._patch(UPDATE, "shop", "/metadata/finalizers")
        await self.until(lambda _: self._finalizers() is None)

    async def strip(self):
        """Remove every finalizer by hand."""
        await self._patch(UPDATE, "shop", "/metadata/finalizers")

    async def _patch(self, kind, name, path):
        gone = [{"op": "remove", "path": path}]
        await self.client.patch(kind, self.namespace, name, gone, manager="person")

    def _finalizers(self):
        raw = self.ground.cache.get(UPDATE, self.namespace, "shop")
        return None if raw is None else raw["metadata"].get("finalizers", [])

    async def gone(self):
        """Wait until the update is gone."""
        await self.until(lambda _: self._finalizers() is None, seconds=60)


async def directed(ground, *, held=()):
    """A new scene with a director."""
    namespace = f"directed-{os.getpid()}-{next(_numbers)}"
    await ground.client.create(NAMESPACE, {"metadata": {"name": namespace}})
    ground.scenes[namespace] = scene = Directed(ground, namespace)
    scene.held |= set(held)
    return scene


async def unless_gone(part):
    """Do something to an object that another client may delete or change at the same moment."""
    with contextlib.suppress(errors.NotFound, errors.Conflict):
        await part


def manifest(update, **annotations):
    """The update as Git has it: what its author wrote, nothing else."""
    place = {key: update["metadata"][key] for key in ("namespace", "name")}
    written = {key: update[key] for key in ("apiVersion", "kind", "spec")}
    return json.dumps({**written, "metadata": {**place, "annotations": annotations}})


def _labels(raw):
    return raw["metadata"].get("labels") or {}


def attempt_of(job):
    return int(job["metadata"]["labels"][LABEL_ATTEMPT])


def condition(status, kind):
    """A condition of a status by its type."""
    return next((each for each in status.get("conditions", []) if each["type"] == kind), {})
