"""The tensors of the Open Inference Protocol v2 as JSON: what is asked, what is answered.

Clients are told what is wrong by path, number and bound; the texts themselves are never repeated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

MAX_ROWS = 4096
PROBABILITIES, LABEL = "probabilities", "label"

Name = Annotated[str, Field(max_length=128)]


class Malformed(Exception):
    """The request cannot be answered; the message says what to change."""


class Tensor(BaseModel):
    """One input tensor."""

    model_config = ConfigDict(strict=True)

    name: Name
    shape: Annotated[list[int], Field(max_length=8)]
    datatype: Annotated[str, Field(max_length=16)]
    data: list[Any]


class RequestedOutput(BaseModel):
    """One output tensor that the client wants."""

    model_config = ConfigDict(strict=True)

    name: Name


class InferenceRequest(BaseModel):
    """Body of POST /v2/models/{name}/infer. Parameters are accepted and mean nothing here.

    Clients that write every field write null for those that they do not use.
    """

    model_config = ConfigDict(strict=True)

    id: Annotated[str | None, Field(max_length=256)] = None
    parameters: dict[str, Any] | None = None
    inputs: Annotated[list[Tensor], Field(min_length=1, max_length=64)]
    outputs: Annotated[list[RequestedOutput] | None, Field(max_length=64)] = None

    def wanted(self) -> list[str]:
        """Return the names of the outputs in the order asked for; all of them by default."""
        asked = self.outputs or []
        for number, output in enumerate(asked):
            if output.name not in {PROBABILITIES, LABEL}:
                raise Malformed(
                    f"outputs[{number}].name is {output.name!r}; "
                    f"this model has {PROBABILITIES} and {LABEL}"
                )
        return list(dict.fromkeys(output.name for output in asked)) or [PROBABILITIES, LABEL]


def parse(body: bytes) -> InferenceRequest:
    """Read a request.

    Raises:
        Malformed: the body is not JSON, or not of the protocol's form.
    """
    try:
        content = from_json(body, allow_inf_nan=False)
    except ValueError as wrong:
        raise Malformed(f"the body is not JSON in UTF-8: {wrong}") from None
    try:
        return InferenceRequest.model_validate(content)
    except ValidationError as wrong:
        first = wrong.errors(include_input=False, include_url=False, include_context=False)[0]
        raise Malformed(f"{_path(first['loc'])}: {first['msg']}") from None


def columns(inputs: Sequence[Tensor], wanted: Sequence[str]) -> dict[str, list[str]]:
    """Take the columns of the model out of the input tensors.

    Returns:
        For each wanted name its rows; all have the same number of rows, 1 to 4096.

    Raises:
        Malformed: a tensor is missing, unknown, twice there, or of a wrong form.
    """
    found: dict[str, list[str]] = {}
    for number, tensor in enumerate(inputs):
        if tensor.name not in wanted or tensor.name in found:
            what = "is there twice" if tensor.name in found else "is unknown"
            raise Malformed(
                f"inputs[{number}].name {tensor.name!r} {what}; this model reads {_list(wanted)}"
            )
        found[tensor.name] = _rows(tensor, f"inputs[{number}]")
    if missing := [name for name in wanted if name not in found]:
        raise Malformed(f"inputs lacks {_list(missing)}; this model reads {_list(wanted)}")
    if len({len(rows) for rows in found.values()}) > 1:
        counts = ", ".join(f"{name} has {len(rows)}" for name, rows in found.items())
        raise Malformed(f"inputs differ in their number of rows: {counts}")
    return found


def _rows(tensor: Tensor, where: str) -> list[str]:
    if tensor.datatype != "BYTES":
        raise Malformed(f"{where}.datatype is {tensor.datatype!r}; {tensor.name} must be BYTES")
    if len(tensor.shape) != 1:
        raise Malformed(
            f"{where}.shape has {len(tensor.shape)} dimensions; {tensor.name} has one, [rows]"
        )
    rows = tensor.shape[0]
    if not 1 <= rows <= MAX_ROWS:
        raise Malformed(f"{where}.shape is [{rows}]; rows must be 1 to {MAX_ROWS}")
    if len(tensor.data) != rows:
        raise Malformed(f"{where}.shape is [{rows}], but data has {len(tensor.data)} elements")
    for number, value in enumerate(tensor.data):
        if not isinstance(value, str):
            kind = type(value).__name__
            raise Malformed(f"{where}.data[{number}] must be a string, not {kind}")
    return tensor.data


def outputs(scores: np.ndarray, labels: Sequence[str], wanted: Sequence[str]) -> list[Any]:
    """Write the output tensors.

    Args:
        scores: float32 [rows, labels], finite.
        labels: Names of the columns of `scores`.
        wanted: Names of the tensors.
    """
    rows = len(scores)
    made = {
        PROBABILITIES: lambda: {
            "shape": [rows, len(labels)],
            "datatype": "FP32",
            "data": scores.ravel().tolist(),
        },
        LABEL: lambda: {
            "shape": [rows],
            "datatype": "BYTES",
            "data": [labels[best] for best in scores.argmax(axis=1)],
        },
    }
    return [{"name": name, **made[name]()} for name in wanted]


def _path(parts: Sequence[int | str]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return path.lstrip(".") or "the body"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
