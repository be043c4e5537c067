"""Reads the index of the rows: the columns that select the window, without their texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from springtide_trainer.data.partitions import micros, moment
from springtide_trainer.data.source.index_cache import FileIndex
from springtide_trainer.data.source.reserved_entities import reserved
from springtide_trainer.data.source.stream import (
    CLOCK_SKEW,
    IndexDigest,
    Stream,
    index_batches,
)
from springtide_trainer.data.windows.new_data import StreamIndex
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from springtide_api.update.data import Data
    from springtide_trainer.data.partitions import Micros, Span
    from springtide_trainer.data.source.files import DataFile, FileSet
    from springtide_trainer.data.source.index_cache import IndexCache
    from springtide_trainer.data.source.readers.rows import RowBatch
    from springtide_trainer.data.windows.new_data import Bools, Codes

_CHUNK = 16_384
_DICTIONARY = pa.dictionary(pa.int32(), pa.string())


def read_index(
    file_sets: Sequence[FileSet],
    data: Data,
    now: datetime,
    cache: IndexCache | None = None,
    *,
    unlabelled: bool = False,
) -> Stream:
    """Read the index of the rows of these file sets.

    Args:
        file_sets: The files.
        data: The spec.
        now: The clock.
        cache: Keeps the index of each file from one probe to the next.
        unlabelled: Whether rows may have no label.

    Raises:
        Refused: a file is damaged, a column missing, a timestamp unreadable, in the future or
            outside its partition.
    """
    newest = now + CLOCK_SKEW
    read = [
        [_file_index(file, reader, cache) for file in file_set.files]
        for file_set in file_sets
        for reader in [_Reader(file_set.span, data, newest, unlabelled)]
    ]
    if cache is not None:
        cache.collect()
    every = [index for indices in read for index in indices]
    timestamps = np.concatenate([np.empty(0, np.int64), *(index.moment for index in every)])
    eligible = np.concatenate([np.empty(0, bool), *(index.eligible for index in every)])
    group, groups = _codes(every, "group") if data.source.columns.group else (None, None)
    if data.source.columns.entity:
        entity, names = _codes(every, "entity")
        is_reserved = _reserved(data, names)[entity]
    else:
        entity, is_reserved = np.arange(len(timestamps)), np.zeros(len(timestamps), dtype=bool)
    served = _served(*_codes(every, "served")) if data.source.columns.served_generation else None
    labelled = _present(*_codes(every, "labelled")) if unlabelled else None
    counts = [sum(len(index.moment) for index in indices) for indices in read]
    return Stream(
        file_sets=tuple(file_sets),
        ends=tuple(int(end) for end in np.cumsum(counts)),
        digests=tuple(tuple(index.digest for index in indices) for indices in read),
        rows=StreamIndex(
            moment=timestamps,
            reserved=is_reserved,
            eligible=eligible,
            entity=entity,
            group=group,
            served=served,
            labelled=labelled,
        ),
        groups=groups,
    )


@dataclass(frozen=True)
class _Reader:
    """Reads the index of the files of one file set."""

    span: Span | None
    data: Data
    newest: datetime
    unlabelled: bool

    def fits(self, timestamps: Micros) -> bool:
        """Return whether the rows of a kept index fit the clock and the partition."""
        late = len(timestamps) > 0 and timestamps.max() > micros(self.newest)
        return not late and (self.span is None or bool(self.span.covers(timestamps).all()))

    def read(self, file: DataFile) -> FileIndex:
        """Read a file."""
        times: list[Micros] = [np.empty(0, np.int64)]
        eligible: list[Bools] = [np.empty(0, dtype=bool)]
        keys: dict[str, list[pa.Array]] = {}
        digest = IndexDigest()
        for batch, rows in index_batches(file, self.data, self.newest, unlabelled=self.unlabelled):
            _check_inside(self.span, rows.moment, batch)
            digest.add(rows)
            times.append(rows.moment)
            eligible.append(rows.eligible)
            for name, column in rows.keys.items():
                keys.setdefault(name, []).append(column.dictionary_encode())
        return FileIndex(
            moment=np.concatenate(times),
            eligible=np.concatenate(eligible),
            keys={name: _joined(chunks) for name, chunks in keys.items()},
            digest=digest.hexdigest(),
        )


def _file_index(file: DataFile, reader: _Reader, cache: IndexCache | None) -> FileIndex:
    """Return the index of a file, from the cache if it fits the clock and the partition."""
    if cache is None:
        return reader.read(file)
    entry = cache.entry(file)
    found = cache.find(entry)
    if found is not None and reader.fits(found.moment):
        return found
    read = reader.read(file)
    cache.keep(entry, file, read)
    return read


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


def _joined(chunks: list[pa.DictionaryArray]) -> pa.DictionaryArray:
    """Join encoded chunks with one dictionary, in order of occurrence."""
    unified = pa.chunked_array(chunks, _DICTIONARY).unify_dictionaries()
    names = unified.chunk(0).dictionary if unified.num_chunks else pa.array([], pa.string())
    codes = pa.chunked_array([chunk.indices for chunk in unified.chunks], pa.int32())
    return pa.DictionaryArray.from_arrays(codes.combine_chunks(), names)


def _codes(every: Sequence[FileIndex], name: str) -> tuple[Codes, pa.Array]:
    """Join the values of a column; return their codes and the names of the codes."""
    joined = _joined([index.keys[name] for index in every if name in index.keys])
    return joined.indices.to_numpy().astype(np.int64), joined.dictionary


def _served(codes: Codes, names: pa.Array) -> Codes:
    """Return the number of the generation that served each row; -1 for none."""
    numbers = np.array([int(name or -1) for name in names.to_pylist()], dtype=np.int64)
    return numbers[codes]


def _present(codes: Codes, names: pa.Array) -> Bools:
    """Return which values of a column are not empty."""
    known = np.array([name != "" for name in names.to_pylist()], dtype=bool)
    return known[codes]


def _reserved(data: Data, names: pa.Array) -> Bools:
    """Return which entities are reserved."""
    if data.reserve is None:
        return np.zeros(len(names), dtype=bool)
    found = [np.empty(0, dtype=bool)]
    for start in range(0, len(names), _CHUNK):
        chunk = names.slice(start, _CHUNK).to_pylist()
        found.append(np.array(reserved(chunk, data.reserve.fraction), dtype=bool))
    return np.concatenate(found)
