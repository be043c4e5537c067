"""The CustomResourceDefinitions of both kinds: schemas, names, printer columns and root rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from springtide_api import names
from springtide_api.crd.openapi import structural, unwrapped
from springtide_api.generation.spec import GenerationSpec
from springtide_api.generation.status import GenerationStatus
from springtide_api.schema import VALIDATIONS
from springtide_api.update.spec import UpdateSpec
from springtide_api.update.status import UpdateStatus

if TYPE_CHECKING:
    from springtide_api.schema import Model

UPDATE_NAME_LENGTH = 32
"""With longer names, names of Jobs would exceed 63 characters."""


@dataclass(frozen=True)
class Column:
    """A printer column of `kubectl get`; if `always` is False, only with `-o wide`."""

    name: str
    path: str
    type: str = "string"
    description: str = ""
    always: bool = True

    def plain(self) -> dict[str, Any]:
        """Return the column in the format of a CRD."""
        optional = {"description": self.description} if self.description else {}
        priority = {} if self.always else {"priority": 1}
        return {
            "name": self.name,
            "type": self.type,
            "jsonPath": self.path,
            **optional,
            **priority,
        }


@dataclass(frozen=True)
class Kind:
    """A kind and the content of its CRD."""

    name: str
    plural: str
    short: str
    description: str
    spec: type[Model]
    status: type[Model]
    columns: tuple[Column, ...]
    rules: tuple[tuple[str, str], ...]
    """CEL rules and messages at the root of the object, where metadata.name is accessible."""

    def schema(self) -> dict[str, Any]:
        """Return the structural schema of the whole object."""
        return {
            "description": unwrapped(self.description),
            "type": "object",
            VALIDATIONS: [{"rule": rule, "message": message} for rule, message in self.rules],
            "required": ["spec"],
            "properties": {
                "apiVersion": {"type": "string"},
                "kind": {"type": "string"},
                "metadata": {"type": "object"},
                "spec": structural(self.spec),
                "status": structural(self.status, defaults=False),
            },
        }

    def definition(self) -> dict[str, Any]:
        """Return the CustomResourceDefinition."""
        version = {
            "name": names.VERSION,
            "served": True,
            "storage": True,
            "subresources": {"status": {}},
            "additionalPrinterColumns": [column.plain() for column in self.columns],
            "schema": {"openAPIV3Schema": self.schema()},
        }
        return {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            # The chart decides whether the CRDs are kept when it is uninstalled.
            "metadata": {"name": f"{self.plural}.{names.GROUP}"},
            "spec": {
                "group": names.GROUP,
                "scope": "Namespaced",
                "names": {
                    "kind": self.name,
                    "listKind": f"{self.name}List",
                    "plural": self.plural,
                    "singular": self.name.lower(),
                    "shortNames": [self.short],
                    "categories": ["springtide"],
                },
                "versions": [version],
            },
        }


AGE = Column("Age", ".metadata.creationTimestamp", "date")

UPDATE = Kind(
    name=names.UPDATE_KIND,
    plural=names.UPDATES,
    short=names.UPDATE_SHORT,
    description="""Keeps one model up to date. For each window of new data, a candidate is trained
    from the live weights and evaluated against the live model on the same rows. A candidate that
    passes the gate is rolled out to the Deployments that serve the model.""",
    spec=UpdateSpec,
    status=UpdateStatus,
    columns=(
        Column("Phase", ".status.phase"),
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Live", ".status.live.number", "integer", "Number of the live generation"),
        Column(
            "Candidate",
            ".status.candidate.number",
            "integer",
            "Number of the generation in progress",
        ),
        Column("Progress", ".status.progress.summary"),
        Column(
            "Last-Run",
            ".status.lastRun.summary",
            description="Outcome of the last run, and the number of its generation",
        ),
        Column(
            "Data-Age",
            ".status.freshness.servedDataThrough",
            "date",
            "Age of the newest data that the served model was trained on",
        ),
        Column("Mode", ".spec.mode", always=False),
        Column("Waiting-For", ".status.progress.waitingFor", always=False),
        Column(
            "Pinned",
            ".status.pinned.number",
            "integer",
            "Number of the generation that spec.rollout.pin makes the targets serve",
            always=False,
        ),
        Column("Pending-Rows", ".status.cursor.pendingRows", "integer", always=False),
        Column("GPU-Seconds", ".status.counters.gpuSeconds", "integer", always=False),
        Column(
            "GPU-Last-Day",
            ".status.gpuSecondsLastDay",
            "integer",
            "GPU seconds within 24 hours",
            always=False,
        ),
        AGE,
    ),
    rules=(
        (
            f"size(self.metadata.name) <= {UPDATE_NAME_LENGTH}",
            f"metadata.name must be at most {UPDATE_NAME_LENGTH} characters: Jobs are named after"
            " it; choose a shorter name",
        ),
        (
            "!self.metadata.name.contains('.')",
            "metadata.name must not contain dots: Jobs are named after it; use hyphens",
        ),
    ),
)

GENERATION = Kind(
    name=names.GENERATION_KIND,
    plural=names.GENERATIONS,
    short=names.GENERATION_SHORT,
    description="""One version of a model: the weights and data that it was made from, the
    verdict of the gate, and its rollout. Written by the operator.""",
    spec=GenerationSpec,
    status=GenerationStatus,
    columns=(
        Column("Update", ".spec.updateRef.name"),
        Column("No.", ".spec.number", "integer"),
        Column(
            "Parent",
            ".spec.parent.name",
            description="Generation whose weights the training started from",
        ),
        Column("Phase", ".status.phase"),
        Column("Outcome", ".status.outcome", description="Outcome of the generation"),
        Column(
            "Approval",
            ".spec.approval.decision",
            description="Decision of a person, where gate.approval is Manual",
            always=False,
        ),
        Column(
            "Trained-To",
            ".status.trainedThrough",
            description="End of the data that it was trained on",
        ),
        Column("GPU-Seconds", ".status.gpuSeconds", "integer", always=False),
        AGE,
    ),
    rules=(
        (
            # Parses the name: the API server cannot estimate the cost of string(number).
            "self.metadata.name.startsWith(self.spec.updateRef.name + '-g')"
            " && self.metadata.name.matches('-g(0|[1-9][0-9]{0,9})$')"
            " && int(self.metadata.name.substring(size(self.spec.updateRef.name) + 2))"
            " == self.spec.number",
            "metadata.name must be <spec.updateRef.name>-g<spec.number>; rename it",
        ),
        (
            # A transition: a generation that is restored with its approval has no status yet.
            "!has(self.spec.approval) || has(oldSelf.spec.approval) || (has(self.status)"
            " && has(self.status.verdict) && self.status.verdict == 'Accepted'"
            " && (!has(self.status.retiredReason) || self.status.retiredReason == '')"
            " && !(has(self.status.rollout) && has(self.status.rollout.stepStartedAt)))",
            "spec.approval can be set once status.verdict is Accepted and before the rollout"
            " starts; to stop a run earlier, annotate the IncrementalUpdate with"
            " springtide.dev/request=reject@<token>",
        ),
    ),
)

KINDS = (UPDATE, GENERATION)
