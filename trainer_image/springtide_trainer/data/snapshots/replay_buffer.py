"""The replay buffer: a sample of all rows that a generation and its ancestors were trained on.

The buffer of a generation is a function of its parent's buffer and its own training rows. It is
written once and addressed by the digest of its rows.
"""

from __future__ import annotations

import hashlib
import json
import logging
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from springtide_api.generation.spec import ReplayBuffer
from springtide_trainer.data.partitions import named, within
from springtide_trainer.data.snapshots.freeze import schema, sort_rows
from springtide_trainer.data.snapshots.frozen_rows import (
    MANIFEST,
    codes,
    partition_digests,
    read_chunks,
    row_hashes,
)
from springtide_trainer.data.snapshots.sampling import choose, draws, grouped, pool
from springtide_trainer.data.source.reserved_entities import reserved
from springtide_trainer.errors import Refused
from springtide_trainer.storage import commit_folder, local_path, uri_of
from springtide_trainer.tasks.table import task_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from springtide_api.generation.spec import Recipe
    from springtide_api.update.retention import Replay
    from springtide_trainer.storage import Home
    from springtide_trainer.tasks.task import Grouping

log = logging.getLogger(__name__)

ROWS = "rows.parquet"
_FIELD = "spec.training.retention.replay"
_SAMPLED = ("label", "weight", "group")
"""Columns that the choice of a row depends on, beside its hash."""


@dataclass(frozen=True)
class Held:
    """The rows of a buffer that may be replayed.

    Attributes:
        table: The rows, with the columns of frozen rows.
        message: Why there are none, if so.
        cut: Groups that are left out, because a part of them may not be replayed.
    """

    table: pa.Table
    message: str = ""
    cut: int = 0


def read(given: ReplayBuffer | None, recipe: Recipe, quarantined: Sequence[str]) -> Held:
    """Read a buffer, without the rows of quarantined partitions and reserved entities.

    A group with such a row is left out whole. Rows with other columns than the recipe's are not
    used.

    Raises:
        Refused: the rows do not match the digest, or have a label that the recipe does not have.
    """
    empty = schema(recipe).empty_table()
    if given is None:
        return Held(empty, "the parent left no buffer")
    folder = local_path(given.uri)
    table, columns = _verified(folder, given.digest)
    if columns != recipe.data.source.columns.plain():
        message = "the parent's buffer has other columns than data.source.columns; a new one begins"
        log.warning("buffer not used", extra={"buffer": folder.name, "why": message})
        return Held(empty, message)
    if table.schema != empty.schema:
        raise Refused(
            "BufferMismatch",
            f"{folder} has labels of type {table.schema.field('label').type}, the task has "
            f"{empty.schema.field('label').type}; remove training.retention.replay for one run",
            _FIELD,
        )
    task = task_of(recipe.model)
    task.encode(table["label"], f"rows of {folder}")
    withheld = _withheld(table, recipe, quarantined)
    usable = _usable(table, withheld, task.grouping)
    kept = table.filter(pa.array(usable))
    cut = _cut(table, withheld) if task.grouping else 0
    return Held(kept, "" if len(kept) else "no row of the parent's buffer may be replayed", cut)


def build(
    held: pa.Table,
    frozen: Path,
    recipe: Recipe,
    *,
    replay: Replay,
    quarantined: Sequence[str],
) -> pa.Table:
    """Sample the next buffer from the parent's and from the training rows of this run.

    A group that arrives again replaces that of the parent's buffer.

    Args:
        held: The rows of the parent's buffer, as `read` returns them.
        frozen: Folder of the frozen rows, verified.
        recipe: Names the columns.
        replay: Capacity, and the floor of each class.
        quarantined: Partitions whose rows are left out.
    """
    seed, task = str(recipe.training.hyperparameters.seed), task_of(recipe.model)
    own, grouping = recipe.data.source.columns.entity is None, task.grouping
    withheld, drawn, sampled = [], [], []
    for chunk in _chunks(held, frozen):
        withheld.append(_withheld(chunk, recipe, quarantined))
        if not grouping:
            drawn.append(draws(row_hashes(chunk, own_entity=own), seed))
        sampled.append(chunk.select([name for name in _SAMPLED if name in chunk.column_names]))
    table = pa.concat_tables(sampled)
    usable = _usable(table.slice(len(held)), np.concatenate(withheld)[len(held) :], grouping)
    first = ~_again(table, len(held), usable) if grouping else np.ones(len(held), dtype=bool)
    usable = np.concatenate([first, usable])
    table = table.filter(pa.array(usable))
    rows = pool(
        None if grouping else np.concatenate(drawn)[usable],
        task.classes(table["label"]),
        weights=table["weight"].to_numpy() if "weight" in table.column_names else None,
        groups=grouped(table["group"], seed) if grouping else None,
    )
    size = replay.buffer_rows
    usable[usable] = choose(rows, floor=replay.floor, wanted=size, limit=size)
    return _sorted(_taken(held, frozen, usable), recipe)


def commit(table: pa.Table, recipe: Recipe, home: Home, folder: Path) -> ReplayBuffer:
    """Write a buffer to the storage; an existing one of the same rows is kept, unless damaged."""
    folder.mkdir()
    hashes = row_hashes(table, own_entity=recipe.data.source.columns.entity is None)
    manifest = {
        "columns": recipe.data.source.columns.plain(),
        "label": str(table.schema.field("label").type),
        "rows": partition_digests(table["partition"].to_pylist(), hashes),
    }
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    (folder / MANIFEST).write_bytes(text)
    pq.write_table(table, folder / ROWS)
    digest = "sha256:" + hashlib.sha256(text).hexdigest()
    final = home.buffer(digest)
    if not commit_folder(folder, final):
        try:
            _verified(final, digest)
        except Refused:
            final.rename(folder.with_name(f"damaged-{uuid.uuid4()}"))
            commit_folder(folder, final)
            _verified(final, digest)
    return ReplayBuffer(uri=uri_of(final), digest=digest, rows=len(table))


def _withheld(table: pa.Table, recipe: Recipe, quarantined: Sequence[str]) -> NDArray[np.bool_]:
    """Mark the rows of quarantined partitions and reserved entities."""
    times = table["timestamp"].cast(pa.int64()).to_numpy()
    found = within(times, [named(name) for name in quarantined])
    if recipe.data.reserve:
        found |= np.array(reserved(table["entity"].to_pylist(), recipe.data.reserve.fraction), bool)
    return found


def _usable(
    table: pa.Table, withheld: NDArray[np.bool_], grouping: Grouping | None
) -> NDArray[np.bool_]:
    """Mark the rows that are not withheld and have a weight above 0.

    Groups stay whole: one is left out with its first row that is withheld, if all its weights are
    0, or if it has too many rows to be trained on.
    """
    weights = table["weight"].to_numpy() if "weight" in table.column_names else np.ones(len(table))
    if grouping is None:
        return ~withheld & (weights > 0)
    group, _ = codes(table["group"])
    kept = (np.bincount(group, withheld) == 0) & (np.bincount(group, weights) > 0)
    kept &= np.bincount(group) <= grouping.max_rows
    found: NDArray[np.bool_] = kept[group]
    return found


def _cut(table: pa.Table, withheld: NDArray[np.bool_]) -> int:
    """Count the groups with rows that are withheld and rows that are not."""
    group, _ = codes(table["group"])
    parts = np.bincount(group, withheld)
    return int(((parts > 0) & (parts < np.bincount(group))).sum())


def _again(table: pa.Table, count: int, usable: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the first `count` rows whose group is also one of the usable rows after them."""
    groups = table["group"].combine_chunks()
    new = groups.slice(count).filter(pa.array(usable)).unique()
    found: NDArray[np.bool_] = pc.is_in(groups.slice(0, count), new).to_numpy(zero_copy_only=False)
    return found


def _taken(held: pa.Table, frozen: Path, taken: NDArray[np.bool_]) -> pa.Table:
    kept, start = [], 0
    for chunk in _chunks(held, frozen):
        kept.append(chunk.filter(pa.array(taken[start : start + len(chunk)])))
        start += len(chunk)
    return pa.concat_tables(kept)


def _sorted(chosen: pa.Table, recipe: Recipe) -> pa.Table:
    if not len(chosen):
        return chosen
    own = recipe.data.source.columns.entity is None
    chosen = chosen.drop_columns(["partition", *(["entity"] if own else [])])
    place = chosen.column_names.index("timestamp")
    counted = chosen.set_column(place, "timestamp", chosen["timestamp"].cast(pa.int64()))
    return sort_rows(counted, recipe, "buffer")


def _chunks(held: pa.Table, frozen: Path) -> Iterator[pa.Table]:
    """Yield the rows of the parent's buffer, then the training rows, never all at once."""
    yield held
    for batch in read_chunks(frozen, "train"):
        yield pa.Table.from_batches([batch]).select(held.schema.names).cast(held.schema)


def _verified(folder: Path, digest: str) -> tuple[pa.Table, dict[str, object]]:
    """Read the rows of a buffer and the columns that they were made with.

    Raises:
        Refused: they are missing, or do not match the digest.
    """
    text = (folder / MANIFEST).read_bytes() if (folder / MANIFEST).is_file() else b""
    found = "sha256:" + hashlib.sha256(text).hexdigest()
    if found != digest:
        raise _corrupt(f"{folder / MANIFEST} has digest {found}, expected {digest}")
    manifest = json.loads(text)
    try:
        table = pq.read_table(folder / ROWS, partitioning=None)
    except (FileNotFoundError, pa.ArrowInvalid) as wrong:
        raise _corrupt(f"{folder / ROWS} is missing or damaged") from wrong
    hashes = row_hashes(table, own_entity="entity" not in manifest["columns"])
    if partition_digests(table["partition"].to_pylist(), hashes) != manifest["rows"]:
        raise _corrupt(f"{folder / ROWS} does not match its manifest")
    return table, manifest["columns"]


def _corrupt(what: str) -> Refused:
    return Refused(
        "DigestMismatch",
        f"{what}; restore the folder from a copy, or remove training.retention.replay for one run",
        _FIELD,
    )
