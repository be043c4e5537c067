"""A file of the user's own that every candidate must stay right on, read like the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from springtide_trainer.data.snapshots.freeze import ordered
from springtide_trainer.data.snapshots.row_checks import checked
from springtide_trainer.data.source.files import pieces
from springtide_trainer.data.source.stream import read_all
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from springtide_api.generation import Recipe


def read_guardrail(recipe: Recipe, uri: str, name: str) -> pa.Table:
    """Read the rows of a Guardrail dataset, all of them, in the form of frozen rows.

    Args:
        recipe: Says format, columns and labels.
        uri: The file, or a folder of files.
        name: Name of the dataset, for messages.

    Raises:
        Refused: the file cannot be read, or its rows may not judge.
    """
    data = recipe.data
    source = data.source.model_copy(
        update={"uri": uri, "partition": data.source.partition.model_copy(update={"path": None})}
    )
    unfiltered = data.holdout.model_copy(update={"filter": None})
    elsewhere = data.model_copy(update={"source": source, "volume": None, "holdout": unfiltered})
    tables = [table for piece in pieces(elsewhere) for table in read_all(piece, elsewhere)]
    if not tables or not sum(len(table) for table in tables):
        raise Refused("EmptyFile", f"dataset {name!r} has 0 rows at {uri}", "evaluation.datasets")
    rows = checked(pa.concat_tables(tables), recipe.model.labels, f"rows of dataset {name!r}")
    return ordered(rows, recipe, name).table
