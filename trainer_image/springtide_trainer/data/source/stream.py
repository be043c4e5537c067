"""The stream as rows: an index of what a window must know, and the rows in full for freezing.

The index is read first and is small; texts are read only for rows that have a part in the window.
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
from springtide_trainer.data.source.formats import batches
from springtide_trainer.data.source.reserved_entities import reserved
from springtide_trainer.data.windows.new_data import Known, Rows
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime

    from springtide_api.data_spec import Columns, Data
    from springtide_trainer.data.partitions import Micros
    from springtide_trainer.data.source.files import Piece
    from springtide_trainer.data.source.formats import Batch
    from springtide_trainer.data.windows.new_data import Bools, Codes
    from springtide_trainer.data.windows.window import Part

log = logging.getLogger(__name__)

COLUMNS = "data.source.columns"
FILTER = "data.holdout.filter.column"
CLOCK_SKEW = timedelta(days=1)
"""Timestamps may lie so far ahead of the API server's clock; later ones are refused."""


@dataclass(frozen=True)
class Stream:
    """The rows that were read, piece after piece."""

    pieces: tuple[Piece, ...]
    ends: tuple[int, ...]
    """Number of rows up to the end of each piece."""
    rows: Rows
    groups: tuple[str, ...] = ()
    """Names of the groups, by the numbers that the rows have."""

    def of(self, at: int) -> slice:
        """Return which rows belong to one piece."""
        return slice(self.ends[at - 1] if at else 0, self.ends[at])

    def known(self, data: Data) -> list[Known]:
        """Return the partitions that rows were read of, where timestamps alone decide."""
        return [Known(span) for span in spans_of(self.rows.moment, data.source.partition.period)]


def canonical(columns: Columns) -> dict[str, tuple[str, str]]:
    """Map each frozen column to the user's column and the field that names it."""
    asked: dict[str, tuple[str | None, str]] = {
        "text": (columns.text, "text"),
        "text_pair": (columns.text_pair, "textPair"),
        "label": (columns.label, "label"),
        "entity": (columns.entity, "entity"),
        "group": (columns.group, "group"),
        "weight": (columns.weight, "weight"),
    }
    for at, feature in enumerate(columns.features):
        asked[f"feature:{feature}"] = (feature, f"features[{at}]")
    return {
        name: (column, f"{COLUMNS}.{field}") for name, (column, field) in asked.items() if column
    }


def read_index(pieces: Sequence[Piece], data: Data, now: datetime) -> Stream:
    """Read what a window must know of the rows of these pieces.

    Raises:
        Refused: a file is damaged, a column missing, a timestamp unreadable, in the future or
            outside its partition.
    """
    columns = data.source.columns
    wanted = canonical(columns)
    keep = {name: wanted[name] for name in ("entity", "group") if name in wanted}
    counts, times, judges = [], [], []
    keys: dict[str, list[pa.Array]] = {name: [] for name in keep}
    for piece in pieces:
        read = 0
        for batch in _batches(piece, data):
            found = values.moments(batch, columns.timestamp, now + CLOCK_SKEW)
            _check_inside(piece.span, found, batch)
            times.append(found)
            judges.append(_judges(batch, data))
            for name, (column, field) in keep.items():
                keys[name].append(values.texts(batch, column, field))
            read += len(found)
        counts.append(read)
    moments = np.concatenate(times) if times else np.empty(0, dtype=np.int64)
    group, groups = _codes(keys["group"]) if "group" in keys else (None, [])
    entity, names = _codes(keys["entity"]) if "entity" in keys else (np.arange(len(moments)), [])
    return Stream(
        pieces=tuple(pieces),
        ends=tuple(int(end) for end in np.cumsum(counts)),
        rows=Rows(
            moment=moments,
            reserved=_reserved(data, names, entity),
            judges=np.concatenate(judges) if judges else np.empty(0, dtype=bool),
            entity=entity,
            group=group,
        ),
        groups=tuple(groups),
    )


def begun(stream: Stream, behind: Sequence[Piece], data: Data, judging: Bools) -> Bools:
    """Tell which of the rows that judge belong to a group that has a row in other pieces.

    Reads one column of those pieces, and keeps no more than the groups asked for.

    Args:
        stream: The rows that were read.
        behind: Pieces that were not.
        data: The spec, with a column of groups.
        judging: Which rows judge.

    Raises:
        Refused: a file is damaged. One without the column has no groups.
    """
    assert stream.rows.group is not None
    column = data.source.columns.group
    assert column is not None
    field = f"{COLUMNS}.group"
    asked = np.unique(stream.rows.group[judging])
    names = pa.array([stream.groups[int(code)] for code in asked], pa.string())
    found = np.zeros(len(asked), dtype=bool)
    for file in (file for piece in behind for file in piece.files):
        try:
            for batch in batches(file, data.source.format, {column: field}):
                there = pc.unique(pc.fill_null(values.texts(batch, column, field), ""))
                found |= pc.is_in(names, there).to_numpy(zero_copy_only=False)
        except Refused as refused:
            if refused.failure.reason != "MissingColumn":
                raise
            log.warning("a file behind the cursor has no groups", extra={"file": file.name})
    return judging & np.isin(stream.rows.group, asked[found])


def _batches(piece: Piece, data: Data) -> Iterator[Batch]:
    """Read all columns that the spec names, so that one that is missing is seen at once."""
    columns = data.source.columns
    wanted = {columns.timestamp: values.TIMESTAMP}
    wanted |= dict(canonical(columns).values())
    if data.holdout.filter:
        wanted.setdefault(data.holdout.filter.column, FILTER)
    for file in piece.files:
        yield from batches(file, data.source.format, wanted)


def _check_inside(span: Span | None, moments: Micros, batch: Batch) -> None:
    if span is None or (inside := span.covers(moments)).all():
        return
    at = int(np.argmin(inside))
    raise Refused(
        "OutsidePartition",
        f"{batch.place(at)}: its timestamp {moment(int(moments[at])).isoformat()} lies outside "
        f"partition {span.name}; write the row to its own partition, or change "
        "data.source.partition",
        "data.source.partition",
    )


def _judges(batch: Batch, data: Data) -> Bools:
    wanted = data.holdout.filter
    if wanted is None:
        return np.ones(len(batch.numbers), dtype=bool)
    found = pc.equal(values.texts(batch, wanted.column, FILTER), wanted.equals)
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), dtype=bool)


def _codes(chunks: list[pa.Array]) -> tuple[Codes, list[str]]:
    """Number the values of a column; null counts as the empty text here."""
    whole = pc.fill_null(pa.chunked_array(chunks, pa.string()), "").combine_chunks()
    encoded = whole.dictionary_encode()
    codes = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)
    return codes, encoded.dictionary.to_pylist()


def _reserved(data: Data, names: list[str], entity: Codes) -> Bools:
    if data.reserve is None:
        return np.zeros(len(entity), dtype=bool)
    return np.array(reserved(names, data.reserve.fraction), dtype=bool)[entity]


def read_parts(
    piece: Piece, data: Data, *, seen: Micros, masks: Mapping[Part, Bools]
) -> dict[Part, pa.Table]:
    """Read the rows of a piece that have a part.

    Args:
        piece: The files.
        data: The spec.
        seen: The timestamps that the index read of this piece.
        masks: For each part, which of these rows belong to it.

    Returns:
        For each part its rows, as strings apart from `timestamp` (microseconds since 1970), in
        the order of the files.

    Raises:
        Refused: the files changed since the index was read.
    """
    kept: dict[Part, list[pa.Table]] = {name: [] for name in masks}
    at = 0
    for batch in _batches(piece, data):
        until = at + len(batch.numbers)
        table = table_of(batch, data)
        if not np.array_equal(table["timestamp"].to_numpy(), seen[at:until]):
            raise _changed(batch.file)
        for name, mask in masks.items():
            if mask[at:until].any():
                kept[name].append(table.filter(pa.array(mask[at:until])))
        at = until
    if at != len(seen):
        raise _changed(piece.files[0].name)
    return {name: pa.concat_tables(tables) for name, tables in kept.items() if tables}


def read_all(piece: Piece, data: Data) -> list[pa.Table]:
    """Read all rows of a piece, as strings apart from `timestamp`."""
    return [table_of(batch, data) for batch in _batches(piece, data)]


def table_of(batch: Batch, data: Data) -> pa.Table:
    """Name and read the columns of a batch as frozen rows do."""
    columns = {
        name: values.texts(batch, column, field)
        for name, (column, field) in canonical(data.source.columns).items()
    }
    times = values.moments(batch, data.source.columns.timestamp)
    return pa.table(columns | {"timestamp": pa.array(times)})


def _changed(name: str) -> Refused:
    return Refused(
        "DataChanged",
        f"{name!r} changed while it was read; deliver files by a rename, under their final name "
        "once they are whole",
        "data.source.uri",
    )
