"""JobSets for an observation, in the form of a Job: how the set, its Job and its pods are.

A JobSet says that it ended, and its Job says why; what a trainer says is in the messages of pods.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from springtide_api.names import ANNOTATION_NODES, LABEL_JOB_SET_UID
from springtide_operator.cluster.api.kinds import JOB, JOB_SET, POD
from springtide_operator.cluster.api.objects import controller_uid, true_conditions, whole
from springtide_operator.cluster.reading.observed_jobs import (
    observed_job,
    why_no_pod,
    why_refused,
)
from springtide_operator.lifecycle.queues.observed import ObservedKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from springtide_operator.cluster.api.kinds import Raw
    from springtide_operator.cluster.reading.live_reader import LiveReader
    from springtide_operator.cluster.watching.cache import Cache
    from springtide_operator.lifecycle.state.observed import ObservedJob

ENDED = {"Completed": "Complete", "Failed": "Failed"}
"""Conditions with which a JobSet ends, and what they are called on a Job."""

NOT_CREATED = frozenset({"JobCreationFailed", "HeadlessServiceCreationFailed"})
"""Reasons of Events of a JobSet whose Job or Service is refused."""


@dataclass
class JobSetReader:
    """Reads the JobSets of an update, from the cache where it can."""

    cache: Cache
    live_reader: LiveReader

    def kind(self) -> ObservedKind:
        """Return whether JobSets can be read; without an update that needs them, it is so."""
        store = self.cache.stores[JOB_SET]
        return ObservedKind(store.listed, store.unavailable, store.served)

    async def of_update(
        self, namespace: str, update: str, recorded: Iterable[str]
    ) -> list[ObservedJob]:
        """Return the JobSets of an update.

        Args:
            namespace: its namespace.
            update: its name.
            recorded: JobSets whose outcome still counts: one that is not in the cache counts as
                gone only where the API server itself says so.
        """
        if not self.cache.stores[JOB_SET].listed:
            return []
        held = self.cache.of_update(JOB_SET, namespace, update)
        missing = sorted({*recorded} - {raw["metadata"]["name"] for raw in held})
        live = [await self.live_reader.job_set(namespace, name) for name in missing]
        pods = defaultdict(list)
        for pod in self.cache.of_update(POD, namespace, update):
            labels = pod["metadata"].get("labels") or {}
            pods[labels.get(LABEL_JOB_SET_UID, "")].append(pod)
        jobs = {controller_uid(raw): raw for raw in self.cache.of_update(JOB, namespace, update)}
        found = [*held, *(raw for raw in live if raw is not None)]
        uids = [raw["metadata"]["uid"] for raw in found]
        return [
            await self._read(raw, jobs.get(uid), pods[uid])
            for raw, uid in zip(found, uids, strict=True)
        ]

    async def _read(self, raw: Raw, job: Raw | None, pods: list[Raw]) -> ObservedJob:
        seen = observed_job_set(raw, job, pods, "")
        namespace, uid = raw["metadata"]["namespace"], seen.uid
        if seen.finished and (not pods or any(pod.exit_code is None for pod in seen.pods)):
            # The watch of JobSets may be ahead of that of pods.
            pods = await self.live_reader.pods(namespace, f"{LABEL_JOB_SET_UID}={uid}")
            return observed_job_set(raw, job, pods, "")
        if seen.finished or seen.suspended or len(seen.pods) >= seen.nodes:
            return seen
        return replace(seen, problem=await self._why_no_pods(namespace, uid, job))

    async def _why_no_pods(self, namespace: str, uid: str, job: Raw | None) -> str:
        if job is not None:
            return why_no_pod(await self.live_reader.events(namespace, job["metadata"]["uid"]))
        events = await self.live_reader.events(namespace, uid)
        refused = [event for event in events if event.get("reason") in NOT_CREATED]
        newest = max(refused, key=lambda event: str(event.get("lastTimestamp") or ""), default=None)
        return why_refused(str(newest.get("message") or "")) if newest else ""


def is_of_job_set(job: Raw) -> bool:
    """Whether a Job was created for a JobSet."""
    owners = job["metadata"].get("ownerReferences") or []
    return any(owner.get("controller") and owner["kind"] == JOB_SET.name for owner in owners)


def observed_job_set(raw: Raw, job: Raw | None, pods: Sequence[Raw], problem: str) -> ObservedJob:
    """Read one JobSet.

    Args:
        raw: the JobSet.
        job: its Job; None: it was not created yet, or is gone.
        pods: its pods.
        problem: why it has too few.
    """
    own = observed_job(_as_job(raw, job), pods, problem)
    annotations = raw["metadata"].get("annotations") or {}
    why = {each["type"]: each for each in true_conditions(job)}.get("Failed") if job else None
    failure = f"{why.get('reason', 'Failed')}: {why.get('message', '')}" if why else own.failure
    return replace(
        own,
        nodes=max(whole(annotations.get(ANNOTATION_NODES)) or 0, 2),
        failure=failure if own.failed else "",
    )


def _as_job(raw: Raw, job: Raw | None) -> Raw:
    """A JobSet with the conditions that a Job would have, and the start of its Job."""
    conditions = [
        {**each, "type": ENDED.get(each["type"], each["type"])}
        for each in (raw.get("status") or {}).get("conditions") or []
    ]
    started = ((job or {}).get("status") or {}).get("startTime")
    status: dict[str, Any] = {"conditions": conditions, "startTime": started}
    return {**raw, "spec": raw.get("spec") or {}, "status": status}
