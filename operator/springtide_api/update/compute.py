"""Resources and placement of the pods that train."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from springtide_api.placement import RESERVED, Gpu, Placement
from springtide_api.schema import Duration, LabelKey, Labels, LabelValue, Model, ObjectName, cel

Quantity = Annotated[
    str, Field(max_length=32, pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$")
]
"""A Kubernetes quantity, such as "500m" or "8Gi"."""


@cel(
    "quantity(self.cpu).isGreaterThan(quantity('0'))",
    "cpu must be greater than 0, such as 500m or 2",
    "cpu",
)
@cel(
    "!quantity(self.memory).isLessThan(quantity('64Mi'))",
    "memory must be at least 64Mi; give the unit, such as 8Gi",
    "memory",
)
class Resources(Model):
    """Resource requests and limits of a pod. For memory, the request equals the limit."""

    cpu: Quantity = "1"
    """CPU cores, such as "2" or "500m". They also determine the number of threads. Default 1."""
    memory: Quantity = "4Gi"
    """Memory, such as 8Gi. Default 4Gi."""


@cel(
    "has(self.key) || self.operator == 'Exists'",
    "a toleration without key needs operator Exists; set key, or Exists to accept every taint",
)
@cel(
    "!has(self.value) || self.operator == 'Equal'",
    "value goes with operator Equal; remove value or set Equal",
)
class Toleration(Model):
    """A node taint that the pod tolerates."""

    key: LabelKey | None = None
    """Key of the taint. Default, with operator Exists: all taints."""
    operator: Literal["Exists", "Equal"] = "Equal"
    """How the value is compared. Default Equal."""
    value: LabelValue | None = None
    """Value of the taint. Default: empty."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint. Default: all effects."""


@cel(
    "!quantity(self.importMemory).isLessThan(quantity('64Mi'))",
    "importMemory must be at least 64Mi; give the unit, such as 8Gi",
    "importMemory",
)
@cel(
    "!has(self.sharedMemory) || !quantity(self.sharedMemory).isLessThan(quantity('1Mi'))",
    "sharedMemory must be at least 1Mi; give the unit, such as 1Gi",
    "sharedMemory",
)
@cel(
    "self.gpusPerNode <= 1 || !has(self.gpu) || !has(self.gpu.resourceName)"
    " || !(self.gpu.resourceName.contains('/mig-') || self.gpu.resourceName.endsWith('.shared'))",
    "gpusPerNode must be 0 or 1 with slices of GPUs and with shared ones, which cannot exchange"
    " gradients; set gpu.resourceName to whole GPUs, or gpusPerNode to 1",
)
class Compute(Model):
    """Resources and placement of the training pods."""

    nodes: Annotated[int, Field(ge=1, le=16)] = 1
    """Pods that train together, each with gpusPerNode and resources. With several, a training is a
    JobSet (jobset.x-k8s.io), whose controller must be installed; a pod that fails ends the attempt
    of all. For pods of the evaluation, see data.window.rowsPerShard. Default 1."""
    gpus_per_node: Annotated[int, Field(ge=0, le=16)] = 0
    """GPUs of each training pod. With several, one process trains on each, as training.parallelism
    says. A pod of the evaluation has at most one. Default 0."""
    gpu: Gpu = Gpu()
    """Which GPUs. Default: nvidia.com/gpu."""
    resources: Resources = Resources()
    """CPU and memory of the training and evaluation pods. Default: 1 core and 4Gi."""
    import_memory: Quantity = "2Gi"
    """Memory of the pod that imports model.initial, such as 16Gi. It loads the model in FP32 (4
    bytes per parameter) and writes it; three times that size is enough, with serving.optimise five
    times. Default 2Gi."""
    node_selector: Labels = {}
    """Labels that the node must have. Default: any node."""
    tolerations: Annotated[list[Toleration], Field(max_length=16)] = []
    """Node taints that the pods tolerate. Default: none."""
    shared_memory: Quantity | None = None
    """Size of /dev/shm, through which GPUs exchange gradients where nothing faster connects them.
    What is used of it counts as memory of the pod. Default 64Mi, with several GPUs 1Gi."""
    priority_class_name: ObjectName | None = None
    """PriorityClass of the pods. Default: the default of the cluster."""
    pending_timeout: Duration | None = None
    """An attempt fails if its pod is pending, or its Job in a queue, longer than this. Default: no
    limit."""


@cel(
    "!has(self.podLabels) || !self.podLabels.exists(key, key.matches('^(springtide[.]dev/"
    "|batch[.]kubernetes[.]io/|controller-uid|job-name|kueue[.]x-k8s[.]io/|jobset[.]sigs[.]k8s[.]io/)'))",
    RESERVED,
)
class UpdateCompute(Placement, Compute):
    """Resources and placement of the training pods."""

    def placement(self) -> Placement:
        """Return where pods run: it has no part in what they compute."""
        return Placement.model_construct(
            **{name: getattr(self, name) for name in Placement.model_fields}
        )
