"""Request bodies of the generate extension.

Error messages name path, value and limit, but never contain texts of the request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from springtide_server.model import Row
from springtide_server.tensors import Malformed, describe, read_json

if TYPE_CHECKING:
    from springtide_server.model import Model

TEXT_INPUT = "text_input"
"""The name that the protocol has for the tensor `text`."""


class Parameters(BaseModel):
    """Parameters of a request. Others are accepted and ignored, as those of `infer`."""

    model_config = ConfigDict(strict=True)

    max_new_tokens: Annotated[int | None, Field(ge=1)] = None


class GenerateRequest(BaseModel):
    """Body of a request, without `text_input`, or the features in its place."""

    model_config = ConfigDict(strict=True)

    id: Annotated[str | None, Field(max_length=256)] = None
    parameters: Parameters | None = None


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt."""

    row: Row
    id: str | None


def parse(body: bytes, model: Model) -> Prompt:
    """Parse a request.

    Raises:
        Malformed: the body is not JSON, or lacks an input of the model.
    """
    features = model.scorer.preprocess.features
    names = {name: name if features else TEXT_INPUT for name in model.inputs}
    content = read_json(body)
    # A feature can have the name of another field.
    given = _taken(content, set(names.values())) if isinstance(content, dict) else {}
    try:
        request = GenerateRequest.model_validate(content)
    except ValidationError as wrong:
        raise Malformed(describe(wrong)) from None
    for name in names.values():
        if not isinstance(given.get(name), str):
            raise Malformed(
                f"{name} must be a string; this model reads {', '.join(names.values())}"
            )
    columns = {name: [given[named]] for name, named in names.items()}
    (pair,) = model.scorer.preprocess.render(columns)
    asked = request.parameters.max_new_tokens if request.parameters else None
    return Prompt(Row(pair, new=asked), request.id)


def _taken(content: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: content.pop(name) for name in names & content.keys()}
