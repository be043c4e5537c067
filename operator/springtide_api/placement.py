"""Which GPUs, nodes and queue the training and evaluation pods of an update get.

The fields have the names and the meaning that they have in a pod. What is needed by few has its
place in the chart, for all Jobs: terms over other pods, and over fields of nodes.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from springtide_api.schema import LabelKey, Labels, LabelValue, Model, ObjectName, cel

RESERVED_LABELS = (
    "springtide.dev/",
    "batch.kubernetes.io/",
    "controller-uid",
    "job-name",
    "kueue.x-k8s.io/",
    "jobset.sigs.k8s.io/",
)
"""Beginnings of keys by which the operator, Kubernetes and queues know Jobs and pods."""

RESERVED = (
    "podLabels must not begin with springtide.dev/, batch.kubernetes.io/, controller-uid, job-name,"
    " kueue.x-k8s.io/ or jobset.sigs.k8s.io/: controllers know Jobs and pods by them; choose"
    " another key"
)


def _not_reserved(labels: dict[str, str]) -> dict[str, str]:
    if any(key.startswith(RESERVED_LABELS) for key in labels):
        raise ValueError(RESERVED)
    return labels


ResourceName = Annotated[
    str,
    Field(
        max_length=253,
        pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$",
    ),
]
"""Name of an extended resource, such as nvidia.com/gpu."""


QueueName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=63,
        pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
]
"""Name of a LocalQueue; it must fit into a label."""


@cel(
    "!self.resourceName.matches('^([^/]*[.])?kubernetes[.]io/|^requests[.]')",
    "resourceName must be the extended resource of a device plugin, such as nvidia.com/gpu; none is"
    " below kubernetes.io or begins with requests.",
    "resourceName",
)
class Gpu(Model):
    """The resource that a GPU is requested by."""

    resource_name: ResourceName = "nvidia.com/gpu"
    """Extended resource of the nodes' device plugin: nvidia.com/gpu, a MIG slice such as
    nvidia.com/mig-1g.10gb, a shared GPU such as nvidia.com/gpu.shared, or another vendor's, such as
    amd.com/gpu. gpusPerNode and GPU seconds count units of it, a slice or a share as one. Default
    nvidia.com/gpu."""


@cel(
    "(self.operator == 'In' || self.operator == 'NotIn') == has(self.values)",
    "set values if and only if operator is In or NotIn",
    "operator",
)
class NodeRequirement(Model):
    """A condition on a label of the node."""

    key: LabelKey
    """Key of the label."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How the label is compared."""
    values: Annotated[list[LabelValue] | None, Field(min_length=1, max_length=16)] = None
    """Values that the label may have (In), or must not have (NotIn)."""


class NodeTerm(Model):
    """Conditions that a node meets together."""

    match_expressions: Annotated[list[NodeRequirement], Field(min_length=1, max_length=8)]
    """All of them must be met."""


class RequiredNodes(Model):
    """Nodes that the pods may run on."""

    node_selector_terms: Annotated[list[NodeTerm], Field(min_length=1, max_length=8)]
    """One of them must be met."""


class PreferredNodes(Model):
    """Nodes that are preferred."""

    weight: Annotated[int, Field(ge=1, le=100)]
    """Weight of the preference, 1 to 100."""
    preference: NodeTerm
    """What the preferred nodes meet."""


@cel(
    "has(self.requiredDuringSchedulingIgnoredDuringExecution)"
    " || has(self.preferredDuringSchedulingIgnoredDuringExecution)",
    "nodeAffinity needs required or preferred nodes; remove it to accept every node",
)
class NodeAffinity(Model):
    """Nodes that the pods need or prefer."""

    required_during_scheduling_ignored_during_execution: RequiredNodes | None = None
    """Nodes that the pods may run on. Default: any."""
    preferred_during_scheduling_ignored_during_execution: Annotated[
        list[PreferredNodes] | None, Field(min_length=1, max_length=8)
    ] = None
    """Nodes that are preferred among them. Default: none."""


class NodePreferences(Model):
    """Nodes that the pods need or prefer, as the affinity of a pod."""

    node_affinity: NodeAffinity
    """It replaces the nodeAffinity that the installation sets for all Jobs; podAffinity and
    podAntiAffinity, which only the installation can set, stay."""


class PodSelector(Model):
    """Pods of the namespace."""

    match_labels: Labels
    """Labels that they all have."""


class TopologySpread(Model):
    """How pods are spread, as the topologySpreadConstraints of a pod."""

    max_skew: Annotated[int, Field(ge=1, le=1000)] = 1
    """By how many pods a domain may have more than the one with the fewest. Default 1."""
    topology_key: LabelKey
    """Label of the nodes whose values are the domains, such as kubernetes.io/hostname or
    topology.kubernetes.io/zone."""
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"] = "ScheduleAnyway"
    """ScheduleAnyway prefers an even spread, DoNotSchedule makes the pod wait for it. Default
    ScheduleAnyway."""
    label_selector: PodSelector = PodSelector(match_labels={"springtide.dev/stage": "train"})
    """Pods that count. Default: all training pods of the namespace."""


class Placement(Model):
    """Where training and evaluation pods run, and the queue in which they wait for that.

    It is no part of a recipe, and of no run: a pod that is created gets what the update says then.
    """

    affinity: NodePreferences | None = None
    """Nodes that training and evaluation pods need or prefer. Default: as the installation says for
    all Jobs."""
    topology_spread_constraints: Annotated[list[TopologySpread], Field(max_length=4)] = []
    """How training and evaluation pods are spread over nodes or zones. They replace those that the
    installation sets for all Jobs. Default: as the installation says."""
    pod_labels: Annotated[Labels, AfterValidator(_not_reserved)] = {}
    """Further labels of training and evaluation Jobs and their pods, such as a team or a cost
    centre. Of a label that the installation sets too, this value counts. Default: none."""
    runtime_class_name: ObjectName | None = None
    """RuntimeClass of training and evaluation pods, such as nvidia. It replaces the one that the
    installation sets for all Jobs. Default: as the installation says."""
    queue_name: QueueName | None = None
    """LocalQueue of Kueue in the namespace of the update. Training and evaluation Jobs are created
    suspended and run while Kueue admits them. Default: no queue."""

    def digest(self) -> str:
        """Return a digest of what is set, as an annotation keeps it; empty: nothing is."""
        known = {key: value for key, value in self.plain().items() if value}
        text = json.dumps(known, sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest() if known else ""
