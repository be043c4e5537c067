"""Stores replay buffers: each is written once and addressed by the digest of its rows.

`next_buffer` samples the rows.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from springtide_api.generation.spec import ReplayBuffer
from springtide_api.update.data import Columns
from springtide_trainer.data.snapshots.decay import Limits
from springtide_trainer.data.snapshots.freeze import schema
from springtide_trainer.data.snapshots.frozen_rows import (
    MANIFEST,
    codes,
    partition_digests,
    refused_if_damaged,
    row_hashes,
    unhashed_as_written,
)
from springtide_trainer.data.snapshots.next_buffer import PREFIX, usable_rows, withheld
from springtide_trainer.errors import Refused
from springtide_trainer.storage import commit_content, local_path, uri_of
from springtide_trainer.tasks.table import task_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from springtide_api.generation.spec import Recipe
    from springtide_trainer.data.snapshots.next_buffer import Sample
    from springtide_trainer.storage import Home

log = logging.getLogger(__name__)

ROWS = "rows.parquet"
_FIELD = "spec.training.retention.replay"
_REMOVE = (
    "remove training.retention.replay (training.retention, if it has nothing else) until the next "
    "generation is live"
)


@dataclass(frozen=True)
class Held:
    """The rows of a buffer that may be replayed.

    Attributes:
        table: The rows, with the columns of frozen rows.
        message: Why there are none, if so.
        cut: Groups that are left out, because a part of them may not be replayed.
        limits: What the buffer was cut off at.
        labels: The labels of the generation that left the buffer; it can have no rows of labels
            that were appended since. None for a task without labels.
    """

    table: pa.Table
    message: str = ""
    cut: int = 0
    limits: Limits = field(default_factory=Limits)
    labels: Sequence[str] | None = None


def read(given: ReplayBuffer | None, recipe: Recipe, quarantined: Sequence[str]) -> Held:
    """Read a buffer, without the rows of quarantined partitions and reserved entities.

    A group with such a row is left out whole. Rows with other columns than the recipe's are not
    used; with another slice column, they are of no slice.

    Raises:
        Refused: the rows do not match the digest, or were labelled with other labels than the first
            of the recipe's.
    """
    empty = schema(recipe).empty_table()
    if given is None:
        return Held(empty, "the parent left no buffer")
    folder = local_path(given.uri)
    table, manifest = _verified(folder, given.digest)
    if not _same_columns(manifest["columns"], recipe.data.source.columns):
        message = "the parent's buffer has other columns than data.source.columns; a new one begins"
        log.warning("buffer not used", extra={"buffer": folder.name, "why": message})
        return Held(empty, message)
    if manifest["columns"].get("slice") != recipe.data.source.columns.slice:
        table = _without_slices(table, empty.schema)
    if table.schema != empty.schema:
        raise Refused(
            "BufferMismatch",
            f"{folder} has labels of type {table.schema.field('label').type}, the task has "
            f"{empty.schema.field('label').type}; {_REMOVE}",
            _FIELD,
        )
    task, labels = task_of(recipe.model), manifest.get("labels")
    _check_labels(folder, labels, recipe.model.labels)
    task.encode(table["label"], f"rows of {folder}")
    kept_out = withheld(table, recipe, quarantined)
    usable = usable_rows(table, kept_out, task.grouping)
    kept = table.filter(pa.array(usable))
    cut = _cut(table, kept_out) if task.grouping else 0
    message = "" if len(kept) else "no row of the parent's buffer may be replayed"
    return Held(kept, message, cut, Limits.of(manifest), labels)


def _same_columns(before: Mapping[str, Any], now: Columns) -> bool:
    """Return whether rows have the columns that are needed now.

    The template joins them after they are read, no input depends on the slice, and a column that
    is new in this version has its default.
    """
    other = {"template": None, "slice": None}
    return Columns.model_validate({**before, **other}) == now.model_copy(update=other)


def _without_slices(table: pa.Table, columns: pa.Schema) -> pa.Table:
    """Return rows that are of no slice, in the columns of frozen rows."""
    if "slice" in table.column_names:
        table = table.drop_columns(["slice"])
    if "slice" not in columns.names:
        return table
    none = pa.repeat(pa.scalar("", pa.string()), len(table))
    return table.add_column(columns.names.index("slice"), columns.field("slice"), none)


def _check_labels(folder: Path, before: Sequence[str] | None, now: Sequence[str] | None) -> None:
    """Refuse a buffer of other labels: the labels of a row would be read as others.

    Raises:
        Refused: the recipe's labels are not those of the buffer, with labels appended.
    """
    if before is None or now is None or list(now[: len(before)]) == list(before):
        return
    place = next(n for n, name in enumerate(before) if name not in now[n : n + 1])
    given = repr(now[place]) if place < len(now) else "missing"
    raise Refused(
        "BufferMismatch",
        f"{folder} has rows of {len(before)} labels, label {place + 1} is {before[place]!r}; in "
        f"model.labels it is {given}; labels may only be appended: restore their order, or "
        f"{_REMOVE}",
        _FIELD,
    )


def commit(sample: Sample, recipe: Recipe, home: Home, folder: Path) -> ReplayBuffer:
    """Write a buffer to the storage; an existing one of the same rows is kept, unless damaged."""
    folder.mkdir()
    table = sample.table
    hashes = row_hashes(table, own_entity=recipe.data.source.columns.entity is None)
    manifest = {
        **sample.limits.plain(),
        "columns": recipe.data.source.columns.plain(),
        "label": str(table.schema.field("label").type),
        "labels": recipe.model.labels,
        "rows": partition_digests(table["partition"], hashes),
    }
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    (folder / MANIFEST).write_bytes(text)
    pq.write_table(table, folder / ROWS)
    digest = "sha256:" + hashlib.sha256(text).hexdigest()
    final = home.buffer(digest)
    if not commit_content(folder, final):
        try:
            _verified(final, digest)
        except Refused:
            final.rename(folder.with_name(f"damaged-{uuid.uuid4()}"))
            commit_content(folder, final)
            _verified(final, digest)
    return ReplayBuffer(uri=uri_of(final), digest=digest, rows=len(table))


def _cut(table: pa.Table, kept_out: NDArray[np.bool_]) -> int:
    """Count the groups with rows that are withheld and rows that are not."""
    group, _ = codes(table["group"])
    parts = np.bincount(group, kept_out)
    return int(((parts > 0) & (parts < np.bincount(group))).sum())


def _verified(folder: Path, digest: str) -> tuple[pa.Table, dict[str, Any]]:
    """Read the rows of a buffer and its manifest, with the columns and labels of its recipe.

    Raises:
        Refused: they are missing, or do not match the digest.
    """
    text = (folder / MANIFEST).read_bytes() if (folder / MANIFEST).is_file() else b""
    found = "sha256:" + hashlib.sha256(text).hexdigest()
    if found != digest:
        raise _corrupt(f"{folder / MANIFEST} has digest {found}, expected {digest}")
    manifest = json.loads(text)
    own = "entity" not in manifest["columns"]
    with refused_if_damaged(_corrupt(f"{folder / ROWS} is missing or damaged")):
        table = pq.read_table(folder / ROWS, partitioning=None)
        digests = partition_digests(table["partition"], row_hashes(table, own_entity=own))
        same = unhashed_as_written(table, PREFIX if own else None)
    if not same or digests != manifest["rows"]:
        raise _corrupt(f"{folder / ROWS} does not match its manifest")
    return table, manifest


def _corrupt(what: str) -> Refused:
    return Refused(
        "DigestMismatch",
        f"{what}; restore the folder from a copy, or {_REMOVE}",
        _FIELD,
    )
