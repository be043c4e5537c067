"""Workloads as Kueue creates them, and as much of their CRD as the operator relies on."""

import json
from typing import Any

GROUP, PLURAL = "kueue.x-k8s.io", "workloads"
CRD = f"{PLURAL}.{GROUP}"

_ANY: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_SPEC = {**_ANY, "properties": {"active": {"type": "boolean", "default": True}}}


def install(apiserver) -> None:
    """Install the kind."""
    schema = {"type": "object", "properties": {"spec": _SPEC, "status": _ANY}}
    version = {"name": "v1beta1", "served": True, "storage": True, "subresources": {"status": {}}}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": PLURAL, "singular": "workload", "kind": "Workload"},
            "versions": [{**version, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    apiserver.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(body))
    apiserver.wait_for_crds()


def workload(namespace: str, job: str, job_uid: str, **spec: object) -> dict[str, Any]:
    """The Workload of a Job."""
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job, "uid": job_uid}
    return {
        "apiVersion": f"{GROUP}/v1beta1",
        "kind": "Workload",
        "metadata": {
            "namespace": namespace,
            "name": f"job-{job}-{job_uid[:5]}"[:63],
            "labels": {f"{GROUP}/job-uid": job_uid},
            "ownerReferences": [{**owner, "controller": True}],
        },
        "spec": {"queueName": "gpus", "podSets": [{"name": "main", "count": 1}], **spec},
    }


def condition(kind: str, true: bool, reason: str, message: str, at: str) -> dict[str, Any]:
    """A condition of a Workload."""
    status = "True" if true else "False"
    known = {"type": kind, "status": status, "reason": reason, "message": message}
    return {**known, "lastTransitionTime": at}
