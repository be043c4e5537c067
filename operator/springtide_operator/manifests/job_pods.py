"""What an installation adds to the pods of all its Jobs, as the chart's `jobs` values say it.

Everything here is the cluster owner's to choose. What one update needs is in `training.compute`,
and replaces it for training and evaluation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field

from springtide_api.names import GROUP
from springtide_api.schema import Labels, Model, ObjectName

if TYPE_CHECKING:
    from springtide_api.placement import Placement

RESERVED_LABELS = (f"{GROUP}/", "batch.kubernetes.io/", "controller-uid", "job-name")
"""Keys that the operator finds its Jobs by, and those that the Job controller sets."""


def _not_reserved(labels: dict[str, str]) -> dict[str, str]:
    for key in labels:
        if key.startswith(RESERVED_LABELS):
            raise ValueError(f"the label {key} is reserved; choose another key")
    return labels


class Affinity(Model):
    """Which nodes the pods prefer or need, as in a pod; the API server checks the terms."""

    model_config = ConfigDict(extra="forbid")

    node_affinity: dict[str, Any] | None = None
    pod_affinity: dict[str, Any] | None = None
    pod_anti_affinity: dict[str, Any] | None = None


class JobPods(Model):
    """What every Job gets: probe, import, tokenizing, training, evaluation and collection."""

    # An unknown name is refused when the operator starts, so that a typo is not ignored.
    model_config = ConfigDict(extra="forbid")

    image_pull_secrets: Annotated[list[ObjectName], Field(max_length=8)] = []
    """Secrets in the namespace of each update, for a private registry."""
    service_account_name: ObjectName | None = None
    """Service account in the namespace of each update. Default: the namespace's own."""
    labels: Annotated[Labels, AfterValidator(_not_reserved)] = {}
    """Labels of Jobs and pods beside our own."""
    affinity: Affinity | None = None
    """Which nodes the pods prefer or need."""
    topology_spread_constraints: Annotated[list[dict[str, Any]], Field(max_length=4)] = []
    """How the pods are spread, as in a pod; the API server checks them."""
    runtime_class_name: ObjectName | None = None
    """RuntimeClass of the pods."""

    def pod(self, placement: Placement | None = None) -> dict[str, Any]:
        """Return the fields of a pod's spec that these settings fill, and those of an update.

        What the update asks for replaces what is set here: of an affinity only its nodeAffinity.
        """
        known = self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"labels"})
        secrets = known.pop("imagePullSecrets")
        if secrets:
            known["imagePullSecrets"] = [{"name": name} for name in secrets]
        asked = placement.plain() if placement else {}
        for label in ("podLabels", "queueName"):
            asked.pop(label, None)
        affinity = {**known.get("affinity", {}), **asked.pop("affinity", {})}
        known |= {key: value for key, value in asked.items() if value} | {"affinity": affinity}
        return {key: value for key, value in known.items() if value}


PLAIN = JobPods()
"""Nothing is added."""
