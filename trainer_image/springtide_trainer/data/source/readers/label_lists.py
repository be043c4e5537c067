"""Lists of texts in a label column: each is read as its JSON text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

LABEL = "data.source.columns.label"
LISTS = pa.list_(pa.string())


def is_list_of_texts(kind: pa.DataType) -> bool:
    """Return whether a type is a list of strings."""
    return bool(
        (pa.types.is_list(kind) or pa.types.is_large_list(kind))
        and (pa.types.is_string(kind.value_type) or pa.types.is_large_string(kind.value_type))
    )


def write_list(names: Sequence[str | None]) -> str:
    """Return the JSON text of a list."""
    return json.dumps(names, ensure_ascii=False)


def write_lists(column: pa.Array) -> pa.Array:
    """Return the JSON text of each list."""
    written = [None if names is None else write_list(names) for names in column.to_pylist()]
    return pa.array(written, pa.string())
