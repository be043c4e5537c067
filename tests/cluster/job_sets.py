"""JobSets as the operator creates them, and as much of their CRD as it relies on.

The schema has the fields of JobSet 0.10.1 (v1alpha2) that are used, with the rules that it has on
them; any other field is refused or pruned.
"""

import json
from typing import Any

GROUP, PLURAL = "jobset.x-k8s.io", "jobsets"
CRD = f"{PLURAL}.{GROUP}"
JOB_SET_NAME, JOB_SET_UID = "jobset.sigs.k8s.io/jobset-name", "jobset.sigs.k8s.io/jobset-uid"
REPLICATED = "jobset.sigs.k8s.io/replicatedjob-name"

_ANY: dict[str, Any] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
_IMMUTABLE = [{"rule": "self == oldSelf", "message": "Value is immutable"}]


def _fields(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


_FLAG, _COUNT, _TEXT = {"type": "boolean"}, {"type": "integer"}, {"type": "string"}
_JOB = _fields(name=_TEXT, replicas=_COUNT | {"default": 1}, template=_ANY)
_NETWORK = _fields(enableDNSHostnames=_FLAG, publishNotReadyAddresses=_FLAG)
_SPEC = _fields(
    replicatedJobs={
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": _JOB | {"required": ["name", "template"]},
    },
    network=_NETWORK | {"x-kubernetes-validations": _IMMUTABLE},
    failurePolicy=_fields(maxRestarts=_COUNT) | {"x-kubernetes-validations": _IMMUTABLE},
    suspend=_FLAG,
)


def install(apiserver) -> None:
    """Install the kind."""
    version = {"name": "v1alpha2", "served": True, "storage": True, "subresources": {"status": {}}}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": CRD},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {"plural": PLURAL, "singular": "jobset", "kind": "JobSet"},
            "versions": [
                {**version, "schema": {"openAPIV3Schema": _fields(spec=_SPEC, status=_ANY)}}
            ],
        },
    }
    apiserver.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(body))
    apiserver.wait_for_crds()


def job_of(job_set: dict[str, Any]) -> dict[str, Any]:
    """The Job that the controller creates for the one entry of a JobSet."""
    metadata, (entry,) = job_set["metadata"], job_set["spec"]["replicatedJobs"]
    own = {JOB_SET_NAME: metadata["name"], JOB_SET_UID: metadata["uid"], REPLICATED: entry["name"]}
    spec = json.loads(json.dumps(entry["template"]["spec"]))
    spec["template"]["metadata"]["labels"] |= own
    spec["template"]["spec"]["subdomain"] = metadata["name"]
    owner = {"apiVersion": f"{GROUP}/v1alpha2", "kind": "JobSet", "name": metadata["name"]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "namespace": metadata["namespace"],
            "name": f"{metadata['name']}-{entry['name']}-0",
            "labels": {**entry["template"].get("metadata", {}).get("labels", {}), **own},
            "ownerReferences": [{**owner, "uid": metadata["uid"], "controller": True}],
        },
        "spec": {**spec, "suspend": bool(job_set["spec"].get("suspend"))},
    }
