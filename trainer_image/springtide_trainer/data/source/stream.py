"""Reads the rows of the source: first an index to select the window, then the rows to freeze.

The index is small: texts are only read for rows of the window.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from springtide_trainer.data.partitions import Span, moment, spans_of
from springtide_trainer.data.source import values
from springtide_trainer.data.source.readers.read import read_batches
from springtide_trainer.data.source.reserved_entities import reserved
from springtide_trainer.data.windows.new_data import PartitionState, StreamIndex
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from datetime import datetime

    from springtide_api.update.data import Columns, Data
    from springtide_trainer.data.partitions import Micros
    from springtide_trainer.data.source.files import FileSet
    from springtide_trainer.data.source.readers.rows import RowBatch
    from springtide_trainer.data.windows.new_data import Bools, Codes
    from springtide_trainer.data.windows.window import Part

log = logging.getLogger(__name__)

COLUMNS = "data.source.columns"
FILTER = "data.holdout.filter.column"
_CHUNK = 16_384
CLOCK_SKEW = timedelta(days=1)
"""Timestamps further ahead of the API server's clock than this are refused."""


@dataclass(frozen=True)
class Stream:
    """The index of the rows that were read, one file set after the other."""

    file_sets: tuple[FileSet, ...]
    ends: tuple[int, ...]
    """Number of rows up to the end of each file set."""
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
    }
    for index, feature in enumerate(columns.features):
        named[f"feature:{feature}"] = (feature, f"features[{index}]")
    return {
        name: (column, f"{COLUMNS}.{field}") for name, (column, field) in named.items() if column
    }


def read_index(file_sets: Sequence[FileSet], data: Data, now: datetime) -> Stream:
    """Read the index of the rows of these file sets.

    Raises:
        Refused: a file is damaged, a column missing, a timestamp unreadable, in the future or
            outside its partition.
    """
    columns = data.source.columns
    wanted = frozen_columns(columns)
    keep = {name: wanted[name] for name in ("entity", "group") if name in wanted}
    counts, times, eligible = [], [], []
    keys: dict[str, list[pa.Array]] = {name: [] for name in keep}
    for file_set in file_sets:
        read = 0
        for batch in _batches(file_set, data, _index_columns(data)):
            found = values.timestamps(batch, columns.timestamp, now + CLOCK_SKEW)
            _check_inside(file_set.span, found, batch)
            times.append(found)
            eligible.append(_eligible(batch, data))
            for name, (column, field) in keep.items():
                keys[name].append(_encoded(values.texts(batch, column, field)))
            read += len(found)
        counts.append(read)
    timestamps = np.concatenate(times) if times else np.empty(0, dtype=np.int64)
    times.clear()
    group, groups = _codes(keys["group"]) if "group" in keys else (None, None)
    entity, names = _codes(keys["entity"]) if "entity" in keys else (None, None)
    if entity is None:
        entity = np.arange(len(timestamps))
    return Stream(
        file_sets=tuple(file_sets),
        ends=tuple(int(end) for end in np.cumsum(counts)),
        rows=StreamIndex(
            moment=timestamps,
            reserved=_reserved(data, names, entity),
            eligible=np.concatenate(eligible) if eligible else np.empty(0, dtype=bool),
            entity=entity,
            group=group,
        ),
        groups=groups,
    )


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


def _index_columns(data: Data) -> set[str]:
    """Return the columns of the index: texts are not read."""
    columns = data.source.columns
    names = {columns.timestamp, columns.entity, columns.group}
    if data.holdout.filter:
        names.add(data.holdout.filter.column)
    return {name for name in names if name}


def _batches(
    file_set: FileSet, data: Data, read: Collection[str] | None = None
) -> Iterator[RowBatch]:
    """Read columns that the spec names. All must exist, so a missing one is found at once."""
    columns = data.source.columns
    wanted = {columns.timestamp: values.TIMESTAMP}
    wanted |= dict(frozen_columns(columns).values())
    if data.holdout.filter:
        wanted.setdefault(data.holdout.filter.column, FILTER)
    for file in file_set.files:
        yield from read_batches(file, data.source.format, wanted, read)


def _check_inside(span: Span | None, timestamps: Micros, batch: RowBatch) -> None:
    if span is None or (inside := span.covers(timestamps)).all():
        return
    index = int(np.argmin(inside))
    time = moment(int(timestamps[index])).isoformat()
    raise Refused(
        "OutsidePartition",
        f"{batch.location(index)}: its timestamp {time} is outside partition {span.name}; write "
        "the row to its own partition, or change data.source.partition",
        "data.source.partition",
    )


def _eligible(batch: RowBatch, data: Data) -> Bools:
    wanted = data.holdout.filter
    if wanted is None:
        return np.ones(len(batch.numbers), dtype=bool)
    found = pc.equal(values.texts(batch, wanted.column, FILTER), wanted.equals)
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), dtype=bool)


def _encoded(column: pa.Array) -> pa.DictionaryArray:
    """Encode values as integers; null is encoded as the empty text."""
    return pc.fill_null(column, "").dictionary_encode()


def _codes(chunks: list[pa.DictionaryArray]) -> tuple[Codes, pa.Array]:
    """Join the encoded chunks of a column; return its codes and the names of the codes."""
    kind = pa.dictionary(pa.int32(), pa.string())
    encoded = pa.chunked_array(chunks, kind).unify_dictionaries()
    codes = [np.empty(0, dtype=np.int64)]
    codes += [chunk.indices.to_numpy() for chunk in encoded.chunks]
    names = encoded.chunk(0).dictionary if encoded.num_chunks else pa.array([], pa.string())
    return np.concatenate(codes, dtype=np.int64), names


def _reserved(data: Data, names: pa.Array | None, entity: Codes) -> Bools:
    if data.reserve is None or names is None:
        return np.zeros(len(entity), dtype=bool)
    found = [np.empty(0, dtype=bool)]
    for start in range(0, len(names), _CHUNK):
        chunk = names.slice(start, _CHUNK).to_pylist()
        found.append(np.array(reserved(chunk, data.reserve.fraction), dtype=bool))
    return np.asarray(np.concatenate(found)[entity])


def read_parts(
    file_set: FileSet, data: Data, *, indexed: Micros, masks: Mapping[Part, Bools]
) -> Iterator[tuple[Part, pa.Table]]:
    """Read the rows of a file set that belong to a part of the window, in chunks.

    Args:
        file_set: The files.
        data: The spec.
        indexed: The timestamps in the index of this file set.
        masks: Which of these rows belong to each part.

    Yields:
        A part and rows of it, as strings except `timestamp` (microseconds since 1970), in
        the order of the files.

    Raises:
        Refused: the files changed since the index was read.
    """
    start = 0
    for batch in _batches(file_set, data):
        end = start + len(batch.numbers)
        table = table_of(batch, data)
        if not np.array_equal(table["timestamp"].to_numpy(), indexed[start:end]):
            raise _changed(batch.file)
        for name, mask in masks.items():
            if mask[start:end].any():
                yield name, table.filter(pa.array(mask[start:end]))
        start = end
    if start != len(indexed):
        raise _changed(file_set.files[0].name)


def read_all(file_set: FileSet, data: Data) -> list[pa.Table]:
    """Read all rows of a file set, as strings except `timestamp`."""
    return [table_of(batch, data) for batch in _batches(file_set, data)]


def table_of(batch: RowBatch, data: Data) -> pa.Table:
    """Convert a batch to a table with the columns of frozen rows."""
    columns = {
        name: values.texts(batch, column, field)
        for name, (column, field) in frozen_columns(data.source.columns).items()
    }
    times = values.timestamps(batch, data.source.columns.timestamp)
    return pa.table(columns | {"timestamp": pa.array(times)})


def _changed(name: str) -> Refused:
    return Refused(
        "DataChanged",
        f"{name!r} changed while it was read; write files under another name and rename them "
        "when they are complete",
        "data.source.uri",
    )
