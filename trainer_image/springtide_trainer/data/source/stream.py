"""Reads the rows of the source: the index of a file, and the rows of a window to freeze.

The index selects the window (`index.py`). It is small: texts are only read for rows of the window.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections import defaultdict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from springtide_trainer.data.partitions import spans_of
from springtide_trainer.data.source import values
from springtide_trainer.data.source.readers.read import read_batches
from springtide_trainer.data.windows.new_data import PartitionState
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from springtide_api.update.data import Columns, Data
    from springtide_trainer.data.partitions import Micros
    from springtide_trainer.data.source.files import DataFile, FileSet
    from springtide_trainer.data.source.readers.rows import RowBatch
    from springtide_trainer.data.windows.new_data import Bools, StreamIndex
    from springtide_trainer.data.windows.window import Part

log = logging.getLogger(__name__)

COLUMNS = "data.source.columns"
FILTER = "data.holdout.filter.column"
CLOCK_SKEW = timedelta(days=1)
"""Timestamps further ahead of the API server's clock than this are refused."""


@dataclass(frozen=True)
class Stream:
    """The index of the rows that were read, one file set after the other."""

    file_sets: tuple[FileSet, ...]
    ends: tuple[int, ...]
    """Number of rows up to the end of each file set."""
    digests: tuple[tuple[str, ...], ...]
    """Digest of the index of each file, by file set."""
    rows: StreamIndex
    groups: pa.Array | None = None
    """Names of the groups, by their codes in `rows`."""

    def rows_of(self, index: int) -> slice:
        """Return the slice of rows of one file set."""
        return slice(self.ends[index - 1] if index else 0, self.ends[index])

    def partitions(self, data: Data) -> list[PartitionState]:
        """Return the partitions of the rows, for a source without partitions in its paths."""
        return [
            PartitionState(span)
            for span in spans_of(self.rows.moment, data.source.partition.period)
        ]


def frozen_columns(columns: Columns) -> dict[str, tuple[str, str]]:
    """Map each column of frozen rows to the source column and the field that names it."""
    named: dict[str, tuple[str | None, str]] = {
        "text": (columns.text, "text"),
        "text_pair": (columns.text_pair, "textPair"),
        "label": (columns.label, "label"),
        "entity": (columns.entity, "entity"),
        "group": (columns.group, "group"),
        "weight": (columns.weight, "weight"),
        "slice": (columns.slice, "slice"),
    }
    for index, feature in enumerate(columns.features):
        named[f"feature:{feature}"] = (feature, f"features[{index}]")
    return {
        name: (column, f"{COLUMNS}.{field}") for name, (column, field) in named.items() if column
    }


def groups_seen_before(
    stream: Stream, earlier: Sequence[FileSet], data: Data, holdout: Bools
) -> Bools:
    """Return which holdout rows belong to a group that also has a row in earlier file sets.

    Reads one column of these file sets, and keeps only the groups of the holdout.

    Args:
        stream: The rows that were read.
        earlier: File sets that were not read.
        data: The spec, with a group column.
        holdout: Which rows are in the holdout.

    Raises:
        Refused: a file is damaged. A file without the column has no groups.
    """
    assert stream.rows.group is not None
    assert stream.groups is not None
    column = data.source.columns.group
    assert column is not None
    field = f"{COLUMNS}.group"
    groups = np.unique(stream.rows.group[holdout])
    names = stream.groups.take(pa.array(groups))
    found = np.zeros(len(groups), dtype=bool)
    for file in (file for file_set in earlier for file in file_set.files):
        try:
            for batch in read_batches(file, data.source.format, {column: field}):
                present = pc.unique(pc.fill_null(values.texts(batch, column, field), ""))
                found |= pc.is_in(names, present).to_numpy(zero_copy_only=False)
        except Refused as refused:
            if refused.failure.reason != "MissingColumn":
                raise
            log.warning("file before the cursor has no group column", extra={"file": file.name})
    return holdout & np.isin(stream.rows.group, groups[found])


def _index_columns(data: Data, *, unlabelled: bool) -> set[str]:
    """Return the columns of the index: texts are not read."""
    columns = data.source.columns
    names = {columns.timestamp, columns.entity, columns.group, columns.served_generation}
    if unlabelled:
        names.add(columns.label)
    if data.holdout.filter:
        names.add(data.holdout.filter.column)
    return {name for name in names if name}


def _batches(file: DataFile, data: Data, read: Collection[str] | None = None) -> Iterator[RowBatch]:
    """Read columns that the spec names. All must exist, so a missing one is found at once."""
    columns = data.source.columns
    wanted = {columns.timestamp: values.TIMESTAMP}
    wanted |= dict(frozen_columns(columns).values())
    if data.holdout.filter:
        wanted.setdefault(data.holdout.filter.column, FILTER)
    if columns.served_generation:
        wanted.setdefault(columns.served_generation, values.SERVED)
    yield from read_batches(file, data.source.format, wanted, read)


@dataclass(frozen=True)
class IndexedRows:
    """The index of some rows.

    Attributes:
        moment: int64 [rows], microseconds since 1970.
        eligible: bool [rows], the row passes data.holdout.filter.
        keys: The columns `entity`, `group` and `served` (by which generation) as strings, if the
            source has them; `labelled`, which is empty in rows without a label, if they may be.
    """

    moment: Micros
    eligible: Bools
    keys: Mapping[str, pa.Array]

    @staticmethod
    def of(
        batch: RowBatch,
        data: Data,
        texts: Mapping[str, pa.Array],
        times: Micros,
        *,
        unlabelled: bool,
    ) -> IndexedRows:
        """Return the index of a batch, with its texts by the names of frozen columns."""
        keys = {
            name: pc.fill_null(texts[name], "") for name in ("entity", "group") if name in texts
        }
        if column := data.source.columns.served_generation:
            keys["served"] = values.generations(batch, column)
        if unlabelled:
            known = pc.not_equal(pc.fill_null(texts["label"], ""), "")
            keys["labelled"] = pc.if_else(known, "1", "")
        return IndexedRows(times, _eligible(batch, data), keys)


def _eligible(batch: RowBatch, data: Data) -> Bools:
    wanted = data.holdout.filter
    if wanted is None:
        return np.ones(len(batch.numbers), dtype=bool)
    found = pc.equal(values.texts(batch, wanted.column, FILTER), wanted.equals)
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), dtype=bool)


class IndexDigest:
    """Digest of the index of a file, which does not depend on its batches."""

    def __init__(self) -> None:
        self._hashes: defaultdict[str, hashlib._Hash] = defaultdict(hashlib.sha256)

    def add(self, rows: IndexedRows) -> None:
        """Add rows, in the order of the file."""
        self._hashes["moment"].update(rows.moment.tobytes())
        self._hashes["eligible"].update(rows.eligible.tobytes())
        for name, column in rows.keys.items():
            lengths = pc.binary_length(column).to_numpy(zero_copy_only=False)
            self._hashes[f"{name} lengths"].update(lengths.astype(np.int32).tobytes())
            self._hashes[name].update(pc.binary_join(_one_list(column), "")[0].as_buffer())

    def hexdigest(self) -> str:
        """Return the digest."""
        found = sorted((name, one.hexdigest()) for name, one in self._hashes.items())
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def _one_list(column: pa.Array) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array([0, len(column)], pa.int32()), column)


def index_batches(
    file: DataFile, data: Data, newest: datetime, *, unlabelled: bool
) -> Iterator[tuple[RowBatch, IndexedRows]]:
    """Read the index of a file, in batches. Texts are not read.

    Args:
        file: The file.
        data: The spec.
        newest: Later timestamps are refused.
        unlabelled: Whether rows may have no label: the index then says which have one.

    Raises:
        Refused: the file is damaged, a column missing, a timestamp unreadable or after `newest`.
    """
    columns = data.source.columns
    names = ("entity", "group", "label") if unlabelled else ("entity", "group")
    for batch in _batches(file, data, _index_columns(data, unlabelled=unlabelled)):
        times = values.timestamps(batch, columns.timestamp, newest)
        texts = _texts(batch, columns, names)
        yield batch, IndexedRows.of(batch, data, texts, times, unlabelled=unlabelled)


def read_parts(
    file_set: FileSet,
    data: Data,
    *,
    indexed: Micros,
    digests: Sequence[str],
    masks: Mapping[Part, Bools],
    unlabelled: bool = False,
) -> Iterator[tuple[Part, pa.Table]]:
    """Read the rows of a file set that belong to a part of the window, in chunks.

    Args:
        file_set: The files.
        data: The spec.
        indexed: The timestamps in the index of this file set.
        digests: Digest of the index of each file.
        masks: Which of these rows belong to each part.
        unlabelled: Whether rows may have no label, as when the index was read.

    Yields:
        A part and rows of it, as strings except `timestamp` (microseconds since 1970), in
        the order of the files.

    Raises:
        Refused: the files changed since the index was read.
    """
    start = 0
    for file, digest in zip(file_set.files, digests, strict=True):
        found = IndexDigest()
        for batch in _batches(file, data):
            end = start + len(batch.numbers)
            texts, times = _texts(batch, data.source.columns), _times(batch, data)
            if not np.array_equal(times, indexed[start:end]):
                raise _changed(file.name)
            found.add(IndexedRows.of(batch, data, texts, times, unlabelled=unlabelled))
            table = pa.table(texts | {"timestamp": pa.array(times)})
            for name, mask in masks.items():
                if mask[start:end].any():
                    yield name, table.filter(pa.array(mask[start:end]))
            start = end
        if found.hexdigest() != digest:
            raise _changed(file.name)


def read_all(file_set: FileSet, data: Data) -> list[pa.Table]:
    """Read all rows of a file set, as strings except `timestamp`."""
    return [
        pa.table(_texts(batch, data.source.columns) | {"timestamp": pa.array(_times(batch, data))})
        for file in file_set.files
        for batch in _batches(file, data)
    ]


def _texts(
    batch: RowBatch, columns: Columns, names: Collection[str] | None = None
) -> dict[str, pa.Array]:
    """Return columns of a batch as strings, by the names of frozen columns."""
    return {
        name: values.texts(batch, column, field)
        for name, (column, field) in frozen_columns(columns).items()
        if names is None or name in names
    }


def _times(batch: RowBatch, data: Data) -> Micros:
    return values.timestamps(batch, data.source.columns.timestamp)


def _changed(name: str) -> Refused:
    return Refused(
        "DataChanged",
        f"{name!r} changed while it was read; write files under another name and rename them "
        "when they are complete",
        "data.source.uri",
    )
