"""The CustomResourceDefinitions of both kinds: their schemas, names, columns and root rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from springtide_api import names
from springtide_api.generation import GenerationSpec, GenerationStatus
from springtide_api.openapi import structural, unwrapped
from springtide_api.schema import VALIDATIONS
from springtide_api.update_spec import UpdateSpec
from springtide_api.update_status import UpdateStatus

if TYPE_CHECKING:
    from springtide_api.schema import Model

UPDATE_NAME_LENGTH = 32
"""Longer names would make those of our Jobs longer than 63 characters."""


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`; one that is not `always` there is shown by `-o wide`."""

    name: str
    path: str
    type: str = "string"
    description: str = ""
    always: bool = True

    def plain(self) -> dict[str, Any]:
        """Return the column as a CRD holds it."""
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
    """A kind with all that its CRD says."""

    name: str
    plural: str
    short: str
    description: str
    spec: type[Model]
    status: type[Model]
    columns: tuple[Column, ...]
    rules: tuple[tuple[str, str], ...]
    """CEL rules over the whole object, where alone metadata.name can be seen, with messages."""

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
            # Whether an uninstall of the chart keeps the kinds is the chart's to say.
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
    description="""Keeps one model fresh: for each window of new data a candidate is trained from
    the live weights, judged against the live model on the same rows, and, if it passes the gate,
    rolled out to the Deployments that serve it.""",
    spec=UpdateSpec,
    status=UpdateStatus,
    columns=(
        Column("Phase", ".status.phase"),
        Column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Live", ".status.live.number", "integer", "Number of the generation that is served"),
        Column("Candidate", ".status.candidate.number", "integer", "Number of the one under way"),
        Column("Progress", ".status.progress.summary"),
        Column(
            "Last-Run",
            ".status.lastRun.summary",
            description="What became of the last run, and its number",
        ),
        Column(
            "Data-Age",
            ".status.freshness.servedDataThrough",
            "date",
            "Age of the newest data that the served model was trained on",
        ),
        Column("Waiting-For", ".status.progress.waitingFor", always=False),
        Column("Pending-Rows", ".status.cursor.pendingRows", "integer", always=False),
        Column("GPU-Seconds", ".status.counters.gpuSeconds", "integer", always=False),
        AGE,
    ),
    rules=(
        (
            f"size(self.metadata.name) <= {UPDATE_NAME_LENGTH}",
            f"metadata.name must be at most {UPDATE_NAME_LENGTH} characters: Jobs are named after"
            " it; choose a shorter one",
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
    description="""One attempt at a fresher model: from which weights and data it was made, what
    the gate said of it and whether it is served. Written by the operator.""",
    spec=GenerationSpec,
    status=GenerationStatus,
    columns=(
        Column("Update", ".spec.updateRef.name"),
        Column("No.", ".spec.number", "integer"),
        Column("Parent", ".spec.parent.name", description="Whose weights it continues from"),
        Column("Phase", ".status.phase"),
        Column("Outcome", ".status.outcome", description="What became of it"),
        Column(
            "Trained-To",
            ".status.trainedThrough",
            description="End of the data that it was trained on",
        ),
        AGE,
    ),
    rules=(
        (
            # Takes the name apart: string(number) has no bound that the API server knows of.
            "self.metadata.name.startsWith(self.spec.updateRef.name + '-g')"
            " && self.metadata.name.matches('-g(0|[1-9][0-9]{0,9})$')"
            " && int(self.metadata.name.substring(size(self.spec.updateRef.name) + 2))"
            " == self.spec.number",
            "metadata.name must be <spec.updateRef.name>-g<spec.number>; rename it",
        ),
    ),
)

KINDS = (UPDATE, GENERATION)
