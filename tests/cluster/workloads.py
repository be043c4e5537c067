"""Workloads as Kueue creates them, and as much of their CRD as the operator relies on."""

from typing import Any

from cluster import custom_kinds
from cluster.custom_kinds import ANY

from springtide_operator.cluster.api.kinds import JOB, WORKLOAD, Kind

CRD = custom_kinds.crd(WORKLOAD)

_SPEC = {**ANY, "properties": {"active": {"type": "boolean", "default": True}}}


def install(apiserver) -> None:
    """Install the kind."""
    custom_kinds.install(apiserver, WORKLOAD, _SPEC)


def workload(
    namespace: str, job: str, job_uid: str, kind: Kind = JOB, **spec: object
) -> dict[str, Any]:
    """The Workload of a Job, or of a JobSet."""
    owner = {"apiVersion": kind.api_version, "kind": kind.name, "name": job, "uid": job_uid}
    return {
        "apiVersion": WORKLOAD.api_version,
        "kind": WORKLOAD.name,
        "metadata": {
            "namespace": namespace,
            "name": f"{kind.name.lower()}-{job}-{job_uid[:5]}"[:63],
            "labels": {f"{WORKLOAD.group}/job-uid": job_uid},
            "ownerReferences": [{**owner, "controller": True}],
        },
        "spec": {"queueName": "gpus", "podSets": [{"name": "main", "count": 1}], **spec},
    }


def condition(kind: str, true: bool, reason: str, message: str, at: str) -> dict[str, Any]:
    """A condition of a Workload."""
    status = "True" if true else "False"
    known = {"type": kind, "status": status, "reason": reason, "message": message}
    return {**known, "lastTransitionTime": at}
