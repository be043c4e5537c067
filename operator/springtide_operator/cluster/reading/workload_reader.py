"""Workloads of Kueue for an observation: they are found by the uid of their Job."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from springtide_api import names
from springtide_operator.cluster.api.kinds import WORKLOAD
from springtide_operator.cluster.api.objects import moment
from springtide_operator.cluster.watching.watches import QUEUED, job_uid
from springtide_operator.lifecycle.queues.observed import (
    ObservedKind,
    ObservedWorkload,
    WorkloadCondition,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from springtide_operator.cluster.api.kinds import Raw
    from springtide_operator.cluster.watching.cache import Cache
    from springtide_operator.lifecycle.state.observed import ObservedJob

READY = "Ready"


@dataclass
class WorkloadReader:
    """Reads Workloads from the cache."""

    cache: Cache

    def kueue(self) -> ObservedKind:
        """Return whether Workloads can be read; without an update that needs them, it is so."""
        store = self.cache.stores[WORKLOAD]
        return ObservedKind(store.listed, store.unavailable, store.served)

    def of(self, jobs: Iterable[ObservedJob]) -> tuple[ObservedWorkload, ...]:
        """Return the Workloads of those Jobs that are in a queue."""
        store = self.cache.stores[WORKLOAD]
        found = (raw for job in jobs if job.queue for raw in store.by_index((QUEUED, job.uid)))
        return tuple(map(observed_workload, found))


def observed_workload(raw: Raw) -> ObservedWorkload:
    """Read a Workload as the cache keeps it."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    annotations = metadata.get("annotations") or {}
    requeue_at = (status.get("requeueState") or {}).get("requeueAt")
    return ObservedWorkload(
        name=metadata["name"],
        uid=metadata["uid"],
        job_uid=job_uid(raw),
        created=moment(metadata["creationTimestamp"]),
        active=bool(raw["spec"].get("active", True)),
        deactivated_by_us=annotations.get(names.ANNOTATION_SUSPENDED) == "true",
        resumed=_resumed(annotations.get(names.ANNOTATION_RESUMED, "")),
        conditions={each["type"]: _condition(each) for each in status.get("conditions") or []},
        checks=tuple(_checks(status.get("admissionChecks") or [])),
        requeue_at=moment(requeue_at) if requeue_at else None,
    )


def _condition(raw: Raw) -> WorkloadCondition:
    message = str(raw.get("message") or "")
    return WorkloadCondition(raw.get("status") == "True", str(raw.get("reason") or ""), message)


def _checks(raw: Iterable[Raw]) -> Iterable[str]:
    """Describe admission checks that are not ready."""
    for each in raw:
        if each.get("state") != READY:
            message = f" ({each['message']})" if each.get("message") else ""
            yield f"admission check {each['name']} is {each.get('state')}{message}"


def _resumed(text: str) -> datetime | None:
    """Read the time of an annotation, which any client may have written."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        return None
    return read if read.tzinfo else None
