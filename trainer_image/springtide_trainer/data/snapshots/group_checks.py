"""Checks the groups of a task that ranks them: one entity each, and not too many rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.data.source.stream import COLUMNS
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    import pyarrow as pa

    from springtide_trainer.data.source.stream import Stream
    from springtide_trainer.data.windows.new_data import Codes
    from springtide_trainer.data.windows.window import WindowSplit
    from springtide_trainer.tasks.task import Grouping

_SHOWN = 32
"""Characters of a user's value that a message shows."""


def check_window(stream: Stream, split: WindowSplit, grouping: Grouping) -> None:
    """Check the groups of a window.

    Raises:
        Refused: a group has rows of several entities, or more training rows than a forward pass.
    """
    group, names = stream.rows.group, stream.groups
    assert group is not None
    assert names is not None
    inside = split.train | split.reserved | split.holdout
    check_entities(group[inside], stream.rows.entity[inside], names, "the window")
    check_sizes(np.bincount(group[split.train], minlength=len(names)), names, grouping.max_rows)


def check_entities(group: Codes, entity: Codes, names: pa.Array, where: str) -> None:
    """Check that all rows of a group have the same entity.

    Otherwise the group would be split over training rows, validation rows and reserved rows, which
    are chosen by entity.

    Args:
        group: int64 [rows].
        entity: int64 [rows].
        names: The name of each group.
        where: Describes the rows, for messages.

    Raises:
        Refused: a group has rows of several entities.
    """
    order = np.lexsort((entity, group))
    groups, entities = group[order], entity[order]
    differs = (groups[1:] == groups[:-1]) & (entities[1:] != entities[:-1])
    wrong = np.unique(groups[1:][differs])
    if len(wrong):
        raise Refused(
            "GroupOfSeveralEntities",
            f"{len(wrong):,} of {len(np.unique(groups)):,} groups of {where} have rows of more "
            f"than one entity, such as group {_shown(names, wrong[0])}; for task Ranking a group "
            f"must have one entity: correct the column, or remove {COLUMNS}.entity (then "
            "each group is its own entity)",
            f"{COLUMNS}.entity",
        )


def check_sizes(sizes: Codes, names: pa.Array, most: int) -> None:
    """Check that no group has more rows than a forward pass.

    Args:
        sizes: int64 [groups], training rows of each group.
        names: The name of each group.
        most: model.ranking.maxGroupRows.

    Raises:
        Refused: a group is larger.
    """
    wrong = np.flatnonzero(sizes > most)
    if len(wrong):
        largest = int(np.argmax(sizes))
        raise Refused(
            "GroupTooLarge",
            f"{len(wrong):,} of {np.count_nonzero(sizes):,} training groups have more than "
            f"{most:,} rows; the largest, {_shown(names, largest)}, has {sizes[largest]:,}. A "
            "group is never split over forward passes: keep fewer rows of it, or raise "
            "model.ranking.maxGroupRows, which needs more memory",
            "spec.model.ranking.maxGroupRows",
        )


def _shown(names: pa.Array, code: int) -> str:
    return repr(names[int(code)].as_py()[:_SHOWN])
