"""The kinds of objects that the operator reads and writes, and their paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from springtide_api import names

Raw = dict[str, Any]
"""A Kubernetes object as JSON. What the cache hands out must not be changed."""


@dataclass(frozen=True)
class Kind:
    """A kind and its API path. The core group is ""."""

    group: str
    version: str
    plural: str
    name: str

    @property
    def api_version(self) -> str:
        """Group and version as objects spell them."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Build the path; without a namespace that of all namespaces or of a cluster's kind."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        parts = [root]
        if namespace:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/".join(parts)


UPDATE = Kind(names.GROUP, names.VERSION, names.UPDATES, names.UPDATE_KIND)


GENERATION = Kind(names.GROUP, names.VERSION, names.GENERATIONS, names.GENERATION_KIND)


JOB = Kind("batch", "v1", "jobs", "Job")


POD = Kind("", "v1", "pods", "Pod")


DEPLOYMENT = Kind("apps", "v1", "deployments", "Deployment")


REPLICA_SET = Kind("apps", "v1", "replicasets", "ReplicaSet")


CLAIM = Kind("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")


EVENT = Kind("", "v1", "events", "Event")


SERVICE = Kind("", "v1", "services", "Service")


ENDPOINT_SLICE = Kind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")


DISRUPTION_BUDGET = Kind("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")


HTTP_ROUTE = Kind("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute")
"""Its CRD may be missing: the Gateway API is not part of Kubernetes."""


JOB_SET = Kind("jobset.x-k8s.io", "v1alpha2", "jobsets", "JobSet")
"""Of the JobSet project, for a training on several nodes. Its CRD may be missing."""


WORKLOAD = Kind("kueue.x-k8s.io", "v1beta1", "workloads", "Workload")
"""Of Kueue, for each Job in a queue. Its CRD may be missing."""


LEASE = Kind("coordination.k8s.io", "v1", "leases", "Lease")


NAMESPACE = Kind("", "v1", "namespaces", "Namespace")


TOKEN_REVIEW = Kind("authentication.k8s.io", "v1", "tokenreviews", "TokenReview")


def identity(raw: Raw) -> tuple[str, str]:
    """Return namespace and name."""
    metadata = raw["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def version(raw: Raw) -> int:
    """Return the resource version; they can be ordered within a kind."""
    return int(raw["metadata"].get("resourceVersion") or 0)
