"""Reads the user's file of a Guardrail dataset, in the same format as the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from springtide_trainer.data.snapshots.freeze import sort_rows
from springtide_trainer.data.snapshots.frozen_rows import codes
from springtide_trainer.data.snapshots.group_checks import check_entities
from springtide_trainer.data.snapshots.row_checks import check_rows
from springtide_trainer.data.source.files import file_sets
from springtide_trainer.data.source.stream import read_all
from springtide_trainer.errors import Refused
from springtide_trainer.tasks.table import task_of

if TYPE_CHECKING:
    from springtide_api.generation.spec import Recipe


def read_guardrail(recipe: Recipe, uri: str, name: str) -> pa.Table:
    """Read all rows of a Guardrail dataset, with the columns of frozen rows but without slices.

    Nor does it need to say which generation served a row.

    Args:
        recipe: Names format, columns and labels.
        uri: The file, or a folder of files.
        name: Name of the dataset, for messages.

    Raises:
        Refused: the file cannot be read, or its rows are not valid.
    """
    data = recipe.data
    source = data.source.model_copy(
        update={
            "uri": uri,
            "partition": data.source.partition.model_copy(update={"path": None}),
            "columns": data.source.columns.model_copy(
                update={"slice": None, "served_generation": None}
            ),
        }
    )
    unfiltered = data.holdout.model_copy(update={"filter": None})
    guardrail = data.model_copy(update={"source": source, "volume": None, "holdout": unfiltered})
    tables = [table for file_set in file_sets(guardrail) for table in read_all(file_set, guardrail)]
    if not tables or not sum(len(table) for table in tables):
        raise Refused("EmptyFile", f"dataset {name!r} has 0 rows at {uri}", "evaluation.datasets")
    task = task_of(recipe.model)
    rows = check_rows(pa.concat_tables(tables), task, f"rows of dataset {name!r}")
    if task.grouping is not None:
        group, names = codes(rows["group"])
        check_entities(group, codes(rows["entity"])[0], names, f"dataset {name!r}")
    return sort_rows(rows, recipe.model_copy(update={"data": guardrail}), name)
