"""Writes the warm-up queries of a candidate: requests of real rows, for the servers of its pods.

The rows are a sample of the holdout that covers its lengths, without labels, as the frozen rows
have them. They have no part in the verdict, so a file that cannot be written is only logged.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from springtide_api.update.model import WarmUp
from springtide_api.warm_up import MAX_BYTES
from springtide_trainer.artifact.preprocess import Preprocess
from springtide_trainer.data.snapshots.frozen_rows import codes, input_columns, inputs
from springtide_trainer.errors import Refused
from springtide_trainer.storage import local_path, remove_file, replace_file, warm_up_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow as pa
    from numpy.typing import NDArray

    from springtide_api.contract import ArtifactRef
    from springtide_api.generation.spec import Recipe
    from springtide_trainer.evaluation.datasets import EvaluationDataset

    Rows = NDArray[np.int64]

log = logging.getLogger(__name__)

MAX_ROWS = 64
"""Maximum rows of a group in one query."""
MAX_CHARACTERS = 8_192
"""Longer texts are cut."""
_FRAME = 200
"""More bytes than the file has without its queries."""


def write(
    datasets: Sequence[EvaluationDataset], candidate: ArtifactRef, recipe: Recipe, scratch: Path
) -> None:
    """Replace the queries of a verified model, or delete them where the recipe asks for none.

    A model that predicts hidden tokens answers no requests, so it has none.

    Args:
        datasets: The evaluated rows; queries are made of the first holdout.
        candidate: The model.
        recipe: The recipe.
        scratch: A folder of this pod on the same file system.
    """
    asked = recipe.serving.warm_up if recipe.serving else None
    count = (asked or WarmUp()).queries
    folder = local_path(candidate.uri)
    model, final = Preprocess.read(folder), warm_up_file(folder)
    table = next((each.table for each in datasets if each.role == "Holdout"), None)
    try:
        if not count or not table or model.hides_tokens:
            remove_file(final)
            return
        group = table["group"] if model.task == "Ranking" else None
        seed = int(candidate.digest[-16:], 16)
        chosen = sample(lengths(table, model.inputs), group, count=count, seed=seed)
        made = scratch / final.name
        made.write_bytes(content(candidate.digest, requests(table, chosen, model.inputs)))
        replace_file(made, final)
    except (OSError, Refused) as failed:
        log.warning("no warm-up queries", extra={"file": str(final), "error": str(failed)})


def lengths(table: pa.Table, names: Sequence[str]) -> Rows:
    """Return the bytes of the inputs of each row: int64 [rows]."""
    columns = [name for name in input_columns(names) if name in table.column_names]
    total = np.zeros(len(table), dtype=np.int64)
    for name in columns:
        total += pc.binary_length(table[name]).to_numpy()
    return total


def sample(size: Rows, group: pa.ChunkedArray | None, *, count: int, seed: int) -> list[Rows]:
    """Choose the rows of each query: one row, or the rows of one group.

    All rows or groups are sorted by length and cut into `count` parts of equal size; one of each
    part is chosen by chance. The order is by chance, so the first few differ in length too.

    Args:
        size: The length of each row: int64 [rows].
        group: The group of each row. None: each row is one query.
        count: How many queries; fewer where there are not as many rows or groups.
        seed: Seed of the choice.

    Returns:
        The indices of the rows of each query; at most 64 of a group.
    """
    unit = np.arange(len(size)) if group is None else codes(group)[0]
    order = np.argsort(np.bincount(unit, weights=size), kind="stable")
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(part) for part in np.array_split(order, min(count, len(order)))]
    return [np.flatnonzero(unit == each)[:MAX_ROWS] for each in rng.permutation(chosen)]


def requests(table: pa.Table, chosen: Sequence[Rows], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the body of each query, and of one more with all rows, if each had one row."""
    if len(chosen) > 1 and all(len(rows) == 1 for rows in chosen):
        chosen = [*chosen, np.concatenate(chosen)]
    return [_request(table.take(rows), names) for rows in chosen]


def _request(rows: pa.Table, names: Sequence[str]) -> dict[str, Any]:
    columns = inputs(rows)
    return {
        "inputs": [
            {
                "name": name,
                "shape": [len(rows)],
                "datatype": "BYTES",
                "data": [value[:MAX_CHARACTERS] for value in columns[name]],
            }
            for name in names
        ]
    }


def content(digest: str, queries: Sequence[dict[str, Any]]) -> bytes:
    """Return the file. The longest queries are left out where it would be too large."""
    written = [_json(query) for query in queries]
    while sum(map(len, written)) + len(written) > MAX_BYTES - _FRAME:
        written.remove(max(written, key=len))
    return b'{"digest":%s,"requests":[%s]}' % (_json(digest), b",".join(written))


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
