"""Reads and verifies the frozen rows of a window, for training and evaluation."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from springtide_trainer.data.windows.window import PARTS
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from springtide_trainer.data.windows.window import Part

MANIFEST = "manifest.json"
FEATURE = "feature:"
_CHUNK = 16_384
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
    try:
        return pq.read_table(folder / f"{part}.parquet", partitioning=None)
    except (FileNotFoundError, pa.ArrowInvalid) as wrong:
        message = f"{folder / part}.parquet is missing or damaged; {FREEZE_AGAIN}"
        raise Refused("CorruptRows", message) from wrong


def inputs(table: pa.Table) -> dict[str, list[str]]:
    """Return the input columns of the model, by the names that `Preprocess.render` uses."""
    names = [name for name in table.column_names if name in {"text", "text_pair"}]
    names += [name for name in table.column_names if name.startswith(FEATURE)]
    return {name.removeprefix(FEATURE): table[name].to_pylist() for name in names}


def verify(folder: Path, digest: str) -> None:
    """Verify the digest of frozen rows: the manifest, and the rows of every part.

    Raises:
        Refused: DigestMismatch, with the difference.
    """
    text = (folder / MANIFEST).read_bytes() if (folder / MANIFEST).is_file() else b""
    found = "sha256:" + hashlib.sha256(text).hexdigest()
    if found != digest:
        message = f"{folder / MANIFEST} has digest {found}, expected {digest}; {FREEZE_AGAIN}"
        raise Refused("DigestMismatch", message)
    manifest = json.loads(text)
    own = "entity" not in manifest["columns"]
    for part in PARTS:
        table = read_rows(folder, part)
        hashes = row_hashes(table, own_entity=own)
        written = partition_digests(table["partition"].to_pylist(), hashes)
        if written != manifest["rows"][part]:
            message = f"{folder / part}.parquet does not match its manifest; {FREEZE_AGAIN}"
            raise Refused("DigestMismatch", message)


def partition_digests(
    partitions: Iterable[str], hashes: Iterable[bytes]
) -> list[dict[str, object]]:
    """Return the number of rows and the digest of each partition, in the order of the rows."""
    counts: Counter[str] = Counter()
    digests: defaultdict[str, hashlib._Hash] = defaultdict(hashlib.sha256)
    for partition, row in zip(partitions, hashes, strict=True):
        counts[partition] += 1
        digests[partition].update(row)
    return [
        {"partition": name, "rows": count, "digest": "sha256:" + digests[name].hexdigest()}
        for name, count in counts.items()
    ]


def row_hashes(table: pa.Table, *, own_entity: bool) -> list[bytes]:
    """Hash each row by its column names and values, independent of the order of columns.

    Args:
        table: Frozen rows.
        own_entity: `entity` is the index of the row, which is not hashed.
    """
    names = sorted(set(table.column_names) - {"partition"} - ({"entity"} if own_entity else set()))
    write = json.JSONEncoder(separators=(",", ":")).encode
    start = write(names).encode()
    hashes: list[bytes] = []
    for batch in table.select(names).to_batches(max_chunksize=_CHUNK):
        columns = [_plain(column) for column in batch.columns]
        hashes += [
            hashlib.sha256(start + write(row).encode()).digest()
            for row in zip(*columns, strict=True)
        ]
    return hashes


def _plain(column: pa.Array) -> list[object]:
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return column.to_pylist()  # type: ignore[no-any-return]
