"""A column of label names: checked against the names of the spec, counted, turned into indices."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_trainer.tasks.metrics.statistic import Array

COLUMN = "data.source.columns.label"
_SHOWN = 32
"""Characters of a user's value that a message shows."""


def check_names(
    column: pa.ChunkedArray, known: Sequence[str], where: str, *, field: str
) -> pa.ChunkedArray:
    """Check that each label is one of the known names.

    Args:
        column: Labels as read from the source, strings.
        known: The names.
        where: Describes the rows, for messages.
        field: The field that lists the names, such as model.labels.

    Raises:
        Refused: a label is missing or unknown.
    """
    missing = pc.sum(pc.or_kleene(pc.is_null(column), pc.equal(column, ""))).as_py()
    if missing:
        raise Refused(
            "MissingLabel",
            f"{missing:,} of {len(column):,} {where} have no label (null, NaN or empty); fix "
            "or remove them",
            COLUMN,
        )
    unknown = column.filter(pc.invert(pc.is_in(column, pa.array(known, pa.string()))))
    if len(unknown):
        counts = sorted(unknown.value_counts().to_pylist(), key=lambda one: -one["counts"])
        shown = ", ".join(f"{one['values'][:_SHOWN]!r} ({one['counts']:,})" for one in counts[:3])
        raise Refused(
            "UnknownLabel",
            f"{len(unknown):,} of {len(column):,} {where} have a label that is not one of the "
            f"{len(known)} {field} ({names(known)}): {shown}; fix them or append the label to "
            f"{field}",
            COLUMN,
        )
    return column


def count_names(column: pa.ChunkedArray) -> Counter[str]:
    """Count the rows of each label, in order of occurrence."""
    return Counter({one["values"]: one["counts"] for one in column.value_counts().to_pylist()})


def index_names(column: pa.ChunkedArray, known: Sequence[str], where: str, *, field: str) -> Array:
    """Return the index of each label in the known names: int64 [rows].

    Raises:
        Refused: a label is not known.
    """
    found = pc.index_in(column, pa.array(known, pa.string()))
    if found.null_count:
        first = str(column.filter(pc.is_null(found))[0].as_py())
        raise Refused(
            "UnknownLabel",
            f"{found.null_count:,} of {len(found):,} {where} have a label that the model does "
            f"not have, such as {first[:_SHOWN]!r}; it has {', '.join(known[:10])}; append the "
            f"label to {field}",
            f"spec.{field}",
        )
    return np.asarray(found.to_numpy(), dtype=np.int64)


def names(known: Sequence[str]) -> str:
    """Format the first ten names for a message."""
    return ", ".join(repr(label[:_SHOWN]) for label in known[:10])
