"""Reads the warm-up queries that an evaluation left beside a model. Nothing in them is trusted.

They are a file on a claim, or an object in an object store.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from springtide_api.schema import is_digest
from springtide_api.warm_up import MAX_BYTES, SUFFIX, WarmUpQueries
from springtide_trainer.errors import Refused
from springtide_trainer.objects.store import CHECKING, Place, Store
from springtide_trainer.storage import warm_up_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    Query = dict[str, Any]


class Unusable(Exception):
    """The file cannot be used; the message says why and never quotes its texts."""


def beside(artifact: Path | Place) -> Path | Place:
    """Return where the queries of the model in a folder are."""
    if isinstance(artifact, Path):
        return warm_up_file(artifact)
    return Place(artifact.bucket, artifact.key + SUFFIX)


def read(file: Path | Place, digest: str) -> list[Query]:
    """Read the queries of a model. Blocking.

    Args:
        file: The file.
        digest: The digest of the model.

    Returns:
        The queries; none if there is no file, as for an imported model.

    Raises:
        Unusable: it is no file, cannot be read, is too large, not valid, or of another model.
    """
    if not is_digest(digest):
        raise Unusable(f"the digest {digest[:80]!r} is not sha256: and 64 hex digits")
    content = _content(file)
    if content is None:
        return []
    try:
        found = WarmUpQueries.model_validate_json(content)
    except ValidationError as wrong:
        first = wrong.errors(include_input=False, include_url=False, include_context=False)[0]
        path = ".".join(map(str, first["loc"]))[:80]
        reason = "it is not JSON" if first["type"] == "json_invalid" else first["msg"]
        raise Unusable(f"{file} is not valid: {path or 'content'}: {reason}") from None
    try:
        json.dumps(found.requests)
    except (ValueError, RecursionError):
        raise Unusable(f"{file} has a value that cannot be sent") from None
    if found.digest != digest:
        raise Unusable(f"{file} is of model {found.digest}, not of {digest}")
    return found.requests


def _content(file: Path | Place) -> bytes | None:
    """Return the content; None if there is no file."""
    try:
        content = _read(file) if isinstance(file, Path) else _download(file)
    except FileNotFoundError:
        return None
    except Refused as failed:
        raise Unusable(f"{file} cannot be read: {failed.failure.message}") from None
    except OSError as failed:
        raise Unusable(f"{file} cannot be read: {failed.strerror or failed}") from None
    if len(content) > MAX_BYTES:
        raise Unusable(f"{file} is larger than {MAX_BYTES} bytes")
    return content


def _read(file: Path) -> bytes:
    """Read one byte more than is allowed; not from a link or a pipe, which could block."""
    handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(handle, "rb") as opened:  # noqa: PTH123
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(0, "it is not a regular file")
        return opened.read(MAX_BYTES + 1)


def _download(file: Place) -> bytes:
    """Read one byte more than is allowed; a store that does not answer is given up early."""
    store = Store(file.bucket, CHECKING)
    entry = store.head(file.key)
    size = min(entry.size, MAX_BYTES + 1)
    return store.read_range(file.key, 0, size, entry.etag or None) if size else b""


def encode(query: Query, columns: Sequence[str] = ()) -> bytes:
    """Return the body of a query.

    Args:
        query: The query.
        columns: Names of the input tensors whose shape is [rows, 1] instead of [rows].
    """
    inputs = query.get("inputs")
    if columns and isinstance(inputs, list):
        query = {**query, "inputs": [_as_column(each, columns) for each in inputs]}
    return json.dumps(query).encode()


def _as_column(tensor: Any, columns: Sequence[str]) -> Any:
    if not isinstance(tensor, dict) or tensor.get("name") not in columns:
        return tensor
    shape = tensor.get("shape")
    return {**tensor, "shape": [*shape, 1]} if isinstance(shape, list) else tensor
