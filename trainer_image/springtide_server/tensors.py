"""Request and response tensors of the Open Inference Protocol v2 as JSON.

Error messages name path, value and limit, but never contain texts of the request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from springtide_trainer.tasks.task import OutputTensor

MAX_ROWS = 4096
PIECE = 1 << 15
"""Values of an output tensor that are written at a time, in a few milliseconds."""

Name = Annotated[str, Field(max_length=128)]


class Malformed(Exception):
    """The request is invalid; the message says what to change."""


class Tensor(BaseModel):
    """One input tensor."""

    model_config = ConfigDict(strict=True)

    name: Name
    shape: Annotated[list[int], Field(max_length=8)]
    datatype: Annotated[str, Field(max_length=16)]
    data: list[Any]


class RequestedOutput(BaseModel):
    """A requested output tensor."""

    model_config = ConfigDict(strict=True)

    name: Name


class InferenceRequest(BaseModel):
    """Body of POST /v2/models/{name}/infer. Parameters are accepted and ignored.

    Optional fields may be null, because some clients send all fields.
    """

    model_config = ConfigDict(strict=True)

    id: Annotated[str | None, Field(max_length=256)] = None
    parameters: dict[str, Any] | None = None
    inputs: Annotated[list[Tensor], Field(min_length=1, max_length=64)]
    outputs: Annotated[list[RequestedOutput] | None, Field(max_length=64)] = None

    def requested_outputs(self, tensors: Sequence[OutputTensor]) -> list[OutputTensor]:
        """Return the requested ones of the model's output tensors, in order; by default all."""
        known = {tensor.name: tensor for tensor in tensors}
        requested = self.outputs or []
        for number, output in enumerate(requested):
            if output.name not in known:
                raise Malformed(
                    f"outputs[{number}].name is {output.name!r}; "
                    f"this model has {' and '.join(known)}"
                )
        names = dict.fromkeys(output.name for output in requested)
        return [known[name] for name in names or known]


def parse(body: bytes) -> InferenceRequest:
    """Parse a request.

    Raises:
        Malformed: the body is not JSON, or does not match the protocol's schema.
    """
    try:
        return InferenceRequest.model_validate(read_json(body))
    except ValidationError as wrong:
        raise Malformed(describe(wrong)) from None


def read_json(body: bytes) -> Any:
    """Read a body.

    Raises:
        Malformed: it is not JSON.
    """
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as wrong:
        raise Malformed(f"the body is not JSON in UTF-8: {wrong}") from None


def describe(wrong: ValidationError) -> str:
    """Return where a body does not match its schema, without its values."""
    first = wrong.errors(include_input=False, include_url=False, include_context=False)[0]
    return f"{_path(first['loc'])}: {first['msg']}"


def columns(
    inputs: Sequence[Tensor], required: Sequence[str], alternative: Sequence[str] = ()
) -> dict[str, list[str]]:
    """Return the model's input columns from the input tensors.

    Args:
        inputs: The tensors of the request.
        required: Names of the columns.
        alternative: Names of those that another request could have in their place, for messages.

    Returns:
        The rows of each required name; all have the same number of rows, 1 to 4096.

    Raises:
        Malformed: a tensor is missing, unknown, duplicated or invalid.
    """
    reads = _list(required)
    if alternative:
        reads += f", or {_list(alternative)} in another request"
    found: dict[str, list[str]] = {}
    for number, tensor in enumerate(inputs):
        if tensor.name not in required or tensor.name in found:
            what = "is duplicated" if tensor.name in found else "is unknown"
            raise Malformed(
                f"inputs[{number}].name {tensor.name!r} {what}; this model reads {reads}"
            )
        found[tensor.name] = _rows(tensor, f"inputs[{number}]")
    if missing := [name for name in required if name not in found]:
        raise Malformed(f"inputs lacks {_list(missing)}; this model reads {reads}")
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


def outputs(predictions: np.ndarray, requested: Sequence[OutputTensor]) -> Iterator[bytes]:
    """Write the output tensors as JSON: a list, in pieces of at most `PIECE` values.

    Args:
        predictions: [rows, outputs], finite numbers, or texts.
        requested: The tensors to return, at least one.
    """
    for number, tensor in enumerate(requested):
        values = tensor.values(predictions)
        known = {
            "name": tensor.name,
            "shape": list(values.shape),
            "datatype": tensor.datatype,
        }
        yield (b"," if number else b"[") + to_json(known)[:-1] + b',"data":['
        flat = values.ravel()
        for start in range(0, flat.size, PIECE):
            written = to_json(flat[start : start + PIECE].tolist())[1:-1]
            yield b"," + written if start else written
        yield b"]}"
    yield b"]"


def _path(parts: Sequence[int | str]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return path.lstrip(".") or "the body"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
