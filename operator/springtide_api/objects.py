"""Parses objects from the API server into the types of this package.

An older or newer version may have written them: unknown fields are ignored, and invalid fields are
reported one by one before any decision is made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import Field, ValidationError

from springtide_api.generation.spec import GenerationSpec
from springtide_api.generation.status import GenerationStatus
from springtide_api.schema import Model, Time
from springtide_api.update.spec import UpdateSpec
from springtide_api.update.status import UpdateStatus

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails


class OwnerReference(Model):
    """An owner of an object: the garbage collector deletes it with its last one."""

    kind: str
    name: str
    uid: str


class Meta(Model):
    """Metadata of an object."""

    name: str
    namespace: str
    uid: str
    generation: int = 0
    """Incremented by the API server at each change of the spec."""
    resource_version: str = ""
    labels: Annotated[dict[str, str], Field(default_factory=dict)]
    annotations: Annotated[dict[str, str], Field(default_factory=dict)]
    creation_timestamp: Time
    deletion_timestamp: Time | None = None
    """Set while the object is being deleted and finalizers hold it."""
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()


class IncrementalUpdate(Model):
    """An update: spec and status."""

    metadata: Meta
    spec: UpdateSpec
    status: UpdateStatus = UpdateStatus()


class ModelGeneration(Model):
    """A generation: spec and status."""

    metadata: Meta
    spec: GenerationSpec
    status: GenerationStatus = GenerationStatus()


@dataclass(frozen=True)
class Problem:
    """One validation error of an object."""

    field: str
    """Path such as spec.gate.rules[0].min."""
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class InvalidObject(ValueError):
    """An object is invalid; `problems` lists the invalid fields."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


O = TypeVar("O", bound=Model)  # noqa: E741 - an object of the API


def parse_update(
    raw: Mapping[str, Any], before: IncrementalUpdate | None = None
) -> IncrementalUpdate:
    """Read an `IncrementalUpdate`.

    Args:
        raw: as the API server holds it.
        before: an earlier version of the object with the same spec; the parsed spec is reused.

    Raises:
        InvalidObject: a field is missing or out of bounds.
    """
    return _parse(IncrementalUpdate, {**raw, "spec": before.spec} if before else raw)


def parse_generation(
    raw: Mapping[str, Any], before: ModelGeneration | None = None
) -> ModelGeneration:
    """Read a `ModelGeneration`.

    Args:
        raw: as the API server holds it.
        before: an earlier version of the object with the same spec; the parsed spec is reused.

    Raises:
        InvalidObject: a field is missing or out of bounds.
    """
    return _parse(ModelGeneration, {**raw, "spec": before.spec} if before else raw)


def _parse(kind: type[O], raw: Mapping[str, Any]) -> O:
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        raise InvalidObject(tuple(_problem(each) for each in error.errors())) from None


def _problem(error: ErrorDetails) -> Problem:
    field = ""
    for part in error["loc"]:
        field += f"[{part}]" if isinstance(part, int) else f".{part}"
    return Problem(field.lstrip("."), error["msg"] + _shown(error["input"]))


def _shown(value: object) -> str:
    """Return the invalid value in parentheses if it is short."""
    if value is None or isinstance(value, dict | list):
        return ""
    text = str(value)
    return f" (is {text[:64]!r})" if isinstance(value, str) else f" (is {text})"
