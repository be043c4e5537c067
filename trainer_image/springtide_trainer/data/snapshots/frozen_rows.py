"""Reads and verifies the frozen rows of a window, for training and evaluation."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
from collections import Counter, defaultdict
from contextlib import AbstractContextManager, contextmanager
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from springtide_trainer.data.windows.window import PARTS
from springtide_trainer.errors import Refused
from springtide_trainer.storage import file_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from springtide_trainer.data.windows.new_data import Codes
    from springtide_trainer.data.windows.window import Part

log = logging.getLogger(__name__)

MANIFEST = "manifest.json"
FILES = "files.json"
"""Digests of the Parquet files, whose bytes depend on pyarrow's version: not in the manifest."""
FEATURE = "feature:"
TIMESTAMP = pa.timestamp("us", "UTC")
_CHUNK = 16_384
_WRITE = json.JSONEncoder(separators=(",", ":")).encode
FREEZE_AGAIN = (
    "restore the folder from a copy, or freeze a new window by springtide.dev/request=retry@<token>"
)


def read_rows(folder: Path, part: Part) -> pa.Table:
    """Read one part of the frozen rows, sorted by time.

    Args:
        folder: Folder of the frozen rows.
        part: The part to read.

    Returns:
        Columns `text` and `text_pair` (if the source has it), or `feature:<name>` for each feature
        (strings); `label` (the task's type); `timestamp` (microseconds, UTC); `entity` (string);
        `group` (string) and `weight` (float64) if the source has them; `partition` (string).

    Raises:
        Refused: the file is missing or damaged.
    """
    with _refused_if_damaged(folder, part):
        return pq.read_table(folder / f"{part}.parquet", partitioning=None)


def read_chunks(
    folder: Path,
    part: Part,
    columns: Collection[str] | None = None,
    size: int = _CHUNK,
    *,
    rows: range | None = None,
) -> Iterator[pa.RecordBatch]:
    """Read columns of one part in chunks, in the order of the rows.

    Memory does not grow with the number of rows.

    Args:
        folder: Folder of the frozen rows.
        part: The part to read.
        columns: Names of the columns; None: all. Those that the rows do not have are left out.
        size: Maximum number of rows of a chunk.
        rows: Numbers of adjacent rows. None: all. Row groups without any of them are not read.

    Raises:
        Refused: the file is missing or damaged.
    """
    with (
        _refused_if_damaged(folder, part),
        pq.ParquetFile(folder / f"{part}.parquet", pre_buffer=False) as opened,
    ):
        names = opened.schema_arrow.names
        known = [name for name in names if columns is None or name in columns]
        if rows is None:
            yield from opened.iter_batches(size, columns=known, use_threads=False)
            return
        groups, at = _row_groups(opened.metadata, rows)
        for batch in opened.iter_batches(size, row_groups=groups, columns=known, use_threads=False):
            begin, end = max(rows.start - at, 0), min(rows.stop - at, len(batch))
            at += len(batch)
            if begin < end:
                yield batch.slice(begin, end - begin)


def _row_groups(metadata: pq.FileMetaData, rows: range) -> tuple[list[int], int]:
    """Return which row groups have some of these rows, and the number of their first row."""
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    ends = np.cumsum(sizes, dtype=np.int64)
    groups = np.flatnonzero((ends > rows.start) & (ends - sizes < rows.stop))
    return groups.tolist(), int(ends[groups[0]] - sizes[groups[0]]) if len(groups) else 0


def count_rows(folder: Path, part: Part) -> int:
    """Return the number of rows of one part.

    Raises:
        Refused: the file is missing or damaged.
    """
    with _refused_if_damaged(folder, part):
        return int(pq.read_metadata(folder / f"{part}.parquet").num_rows)


def columns_of(folder: Path, part: Part) -> list[str]:
    """Return the names of the columns of one part.

    Raises:
        Refused: the file is missing or damaged.
    """
    with _refused_if_damaged(folder, part):
        names: list[str] = pq.read_schema(folder / f"{part}.parquet").names
        return names


def part_files(part: Part) -> tuple[str, str, str]:
    """Return the names of the files of which `verify_part` and `read_rows` read one part."""
    return MANIFEST, FILES, f"{part}.parquet"


def input_columns(names: Sequence[str]) -> list[str]:
    """Return the columns of frozen rows for the input columns of the model."""
    return [name for each in names for name in (each, f"{FEATURE}{each}")]


def inputs(table: pa.Table | pa.RecordBatch) -> dict[str, list[str]]:
    """Return the input columns of the model, by the names that `Preprocess.render` uses."""
    names = [name for name in table.schema.names if name in {"text", "text_pair"}]
    names += [name for name in table.schema.names if name.startswith(FEATURE)]
    return {name.removeprefix(FEATURE): table[name].to_pylist() for name in names}


def codes(column: pa.ChunkedArray) -> tuple[Codes, pa.Array]:
    """Number the values of a column by order of occurrence: int64 [rows], and their names."""
    encoded = column.combine_chunks().dictionary_encode()
    numbers = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers, encoded.dictionary


def _refused_if_damaged(folder: Path, part: Part) -> AbstractContextManager[None]:
    message = f"{folder / part}.parquet is missing or damaged; {FREEZE_AGAIN}"
    return refused_if_damaged(Refused("CorruptRows", message))


@contextmanager
def refused_if_damaged(refused: Refused) -> Iterator[None]:
    """Refuse a file that is missing or damaged. Errors of the disk have a number; they pass."""
    try:
        yield
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as wrong:
        if isinstance(wrong, OSError) and wrong.errno not in {None, errno.ENOENT}:
            raise
        raise refused from wrong


def verify(folder: Path, digest: str, parts: Sequence[Part] = PARTS) -> None:
    """Verify the digest of frozen rows: the manifest, and the rows of these parts.

    Raises:
        Refused: DigestMismatch, with the difference.
    """
    text = (folder / MANIFEST).read_bytes() if (folder / MANIFEST).is_file() else b""
    found = "sha256:" + hashlib.sha256(text).hexdigest()
    if found != digest:
        message = f"{folder / MANIFEST} has digest {found}, expected {digest}; {FREEZE_AGAIN}"
        raise Refused("DigestMismatch", message)
    manifest = json.loads(text)
    for part in parts:
        verify_part(folder, part, manifest)


def verify_part(folder: Path, part: Part, manifest: Mapping[str, Any]) -> None:
    """Verify one part of frozen rows against their manifest, whose digest is verified.

    The rows were hashed when they were frozen. A file that still has the digest of then is not
    read again; otherwise, such as where the digests of files are missing, its rows are hashed.

    Raises:
        Refused: the rows are missing, damaged or not those of the manifest.
    """
    path = folder / f"{part}.parquet"
    if path.is_file() and _file_digests(folder).get(path.name) == file_digest(path):
        return
    own, found, rows = "entity" not in manifest["columns"], PartitionDigests(), 0
    same = True
    with _refused_if_damaged(folder, part):
        for batch in read_chunks(folder, part):
            table = pa.Table.from_batches([batch])
            found.add(table["partition"], row_hashes(table, own_entity=own))
            same &= unhashed_as_written(table, part if own else None, first=rows)
            rows += len(table)
    if not same or found.plain() != manifest["rows"][part]:
        message = f"{path} does not match its manifest; {FREEZE_AGAIN}"
        raise Refused("DigestMismatch", message)


def unhashed_as_written(table: pa.Table, part: str | None, *, first: int = 0) -> bool:
    """Check what the hashes of rows do not cover: the unit of time, and entities that are numbers.

    Args:
        table: Rows.
        part: Prefix of the entities; None where the hashes cover them.
        first: Number of the first row.
    """
    own = part is None or table["entity"].to_pylist() == own_entities(part, first, len(table))
    return own and bool(table["timestamp"].type == TIMESTAMP)


def own_entities(part: str, first: int, rows: int) -> list[str]:
    """Return the entities of rows whose source has no entity column: their numbers."""
    return [f"{part}-{number}" for number in range(first, first + rows)]


def write_file_digests(folder: Path) -> None:
    """Write the digests of the files of all parts, bound to the manifest."""
    files = {f"{part}.parquet": file_digest(folder / f"{part}.parquet") for part in PARTS}
    written = {"manifest": file_digest(folder / MANIFEST), "files": files}
    (folder / FILES).write_text(json.dumps(written, sort_keys=True), encoding="utf-8")


def _file_digests(folder: Path) -> dict[str, str]:
    """Return the digests of the files if they were written with this manifest."""
    try:
        written = json.loads((folder / FILES).read_bytes())
        if written["manifest"] == file_digest(folder / MANIFEST):
            return dict(written["files"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as wrong:
        log.warning("digests of the files are damaged", extra={"error": str(wrong)})
    return {}


class PartitionDigests:
    """Number of rows and digest of each partition, in the order of the rows."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._digests: defaultdict[str, hashlib._Hash] = defaultdict(hashlib.sha256)

    def add(self, partitions: pa.ChunkedArray, hashes: NDArray[np.uint8]) -> None:
        """Add rows by the names of their partitions and their hashes: uint8 [rows, 32]."""
        numbers, names = codes(pc.fill_null(partitions, ""))
        ends = np.append(np.flatnonzero(np.diff(numbers)) + 1, len(numbers))
        start = 0
        for end in ends if len(numbers) else ():
            name = names[int(numbers[start])].as_py()
            self._counts[name] += int(end - start)
            self._digests[name].update(hashes[start:end].tobytes())
            start = end

    def plain(self) -> list[dict[str, object]]:
        """Return the entries of a manifest."""
        return [
            {
                "partition": name,
                "rows": count,
                "digest": f"sha256:{self._digests[name].hexdigest()}",
            }
            for name, count in self._counts.items()
        ]


def partition_digests(
    partitions: pa.ChunkedArray, hashes: NDArray[np.uint8]
) -> list[dict[str, object]]:
    """Return the number of rows and the digest of each partition, in the order of the rows."""
    digests = PartitionDigests()
    digests.add(partitions, hashes)
    return digests.plain()


def row_hashes(table: pa.Table, *, own_entity: bool) -> NDArray[np.uint8]:
    """Hash each row by its column names and values, independent of the order of columns.

    A row is hashed as JSON: the array of its names, followed by the array of its values.

    Args:
        table: Frozen rows.
        own_entity: `entity` is the index of the row, which is not hashed.

    Returns:
        SHA-256 of each row: uint8 [rows, 32].
    """
    names = sorted(set(table.column_names) - {"partition"} - ({"entity"} if own_entity else set()))
    start = _WRITE(names).encode() + b"["
    hashes: list[bytes] = []
    for batch in table.select(names).to_batches(max_chunksize=_CHUNK):
        columns = [_written(column) for column in batch.columns]
        hashes += [
            hashlib.sha256(start + ",".join(row).encode() + b"]").digest()
            for row in zip(*columns, strict=True)
        ]
    return np.frombuffer(b"".join(hashes), np.uint8).reshape(-1, 32)


def _written(column: pa.Array) -> Iterable[str]:
    """Write each value as JSON."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if column.null_count:
        return map(_WRITE, column.to_pylist())
    values = column.to_numpy(zero_copy_only=False)
    if pa.types.is_string(column.type):
        return map(encode_basestring_ascii, values.tolist())
    if pa.types.is_integer(column.type) or (values.dtype == float and np.isfinite(values).all()):
        return map(repr, values.tolist())
    return map(_WRITE, values.tolist())
