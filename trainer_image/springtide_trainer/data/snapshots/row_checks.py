"""Checks rows before they are frozen: labels (by the task), entities, groups and weights.

Runs before a GPU is requested, and only for the rows of the window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from springtide_trainer.data.snapshots.frozen_rows import FEATURE
from springtide_trainer.data.source.stream import COLUMNS
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from springtide_trainer.tasks.task import Labels


NO_LABEL = ""
"""The label of a frozen row without one, and of all rows where the source has no labels."""


def check_rows(
    table: pa.Table, labels: Labels, where: str, *, unlabelled: bool = False
) -> pa.Table:
    """Check the rows; return them with labels and weights in their types, no null text or slice.

    Args:
        table: Rows as strings, with the columns of frozen rows.
        labels: The task.
        where: Describes the rows, for messages.
        unlabelled: Whether rows may have no label, of a task whose labels are strings.

    Raises:
        Refused: a label is missing or unknown, an entity or group is missing, or a weight is not
            a finite number >= 0.
    """
    if "label" not in table.column_names:
        table = table.append_column("label", pa.array([NO_LABEL] * len(table), pa.string()))
    if unlabelled:
        names = pc.fill_null(table["label"], NO_LABEL)
        labels.check(names.filter(pc.not_equal(names, NO_LABEL)), where)
    else:
        names = labels.check(table["label"], where)
    table = _replaced(table, "label", names)
    for name in ("group", "entity"):
        if name in table.column_names:
            _check_named(table[name], name, where)
    for name in table.column_names:
        if name in {"text", "text_pair", "slice"} or name.startswith(FEATURE):
            table = _replaced(table, name, pc.fill_null(table[name], ""))
    if "weight" in table.column_names:
        table = _replaced(table, "weight", _weights(table["weight"], where))
    return table


def _replaced(table: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, column)


def _check_named(column: pa.ChunkedArray, name: str, where: str) -> None:
    missing = _count(pc.or_kleene(pc.is_null(column), pc.equal(column, "")))
    if missing:
        raise Refused(
            f"Missing{name.capitalize()}",
            f"{missing:,} of {len(column):,} {where} have no {name}; add it, such as a session id, "
            f"or remove {COLUMNS}.{name}",
            f"{COLUMNS}.{name}",
        )


def _weights(column: pa.ChunkedArray, where: str) -> pa.ChunkedArray:
    try:
        numbers = column.cast(pa.float64())
    except pa.ArrowInvalid as wrong:
        what = f"some of {len(column):,} {where} have a weight that is not a number"
        raise _bad_weight(what) from wrong
    values = numbers.to_numpy()
    bad = int(np.count_nonzero(~(np.isfinite(values) & (values >= 0))))
    if bad:
        raise _bad_weight(f"{bad:,} of {len(column):,} {where} have no finite weight >= 0")
    return numbers


def _bad_weight(what: str) -> Refused:
    message = f"{what}; fix them or remove {COLUMNS}.weight"
    return Refused("InvalidWeight", message, f"{COLUMNS}.weight")


def _count(mask: pa.ChunkedArray) -> int:
    return int(pc.sum(mask).as_py() or 0)
