"""JobSets as the operator creates them, and as much of their CRD as it relies on.

The schema has the fields of JobSet 0.10.1 (v1alpha2) that are used, with the rules that it has on
them; any other field is refused or pruned.
"""

import json
from typing import Any

from cluster import custom_kinds
from cluster.custom_kinds import ANY, fields

from springtide_operator.cluster.api.kinds import JOB_SET

CRD = custom_kinds.crd(JOB_SET)
JOB_SET_NAME, JOB_SET_UID = "jobset.sigs.k8s.io/jobset-name", "jobset.sigs.k8s.io/jobset-uid"
REPLICATED = "jobset.sigs.k8s.io/replicatedjob-name"

_IMMUTABLE = [{"rule": "self == oldSelf", "message": "Value is immutable"}]
_FLAG, _COUNT, _TEXT = {"type": "boolean"}, {"type": "integer"}, {"type": "string"}
_JOB = fields(name=_TEXT, replicas=_COUNT | {"default": 1}, template=ANY)
_NETWORK = fields(enableDNSHostnames=_FLAG, publishNotReadyAddresses=_FLAG)
_SPEC = fields(
    replicatedJobs={
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
        "items": _JOB | {"required": ["name", "template"]},
    },
    network=_NETWORK | {"x-kubernetes-validations": _IMMUTABLE},
    failurePolicy=fields(maxRestarts=_COUNT) | {"x-kubernetes-validations": _IMMUTABLE},
    suspend=_FLAG,
)


def install(apiserver) -> None:
    """Install the kind."""
    custom_kinds.install(apiserver, JOB_SET, _SPEC)


def job_of(job_set: dict[str, Any]) -> dict[str, Any]:
    """The Job that the controller creates for the one entry of a JobSet."""
    metadata, (entry,) = job_set["metadata"], job_set["spec"]["replicatedJobs"]
    own = {JOB_SET_NAME: metadata["name"], JOB_SET_UID: metadata["uid"], REPLICATED: entry["name"]}
    spec = json.loads(json.dumps(entry["template"]["spec"]))
    spec["template"]["metadata"]["labels"] |= own
    spec["template"]["spec"]["subdomain"] = metadata["name"]
    owner = {"apiVersion": JOB_SET.api_version, "kind": JOB_SET.name, "name": metadata["name"]}
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
