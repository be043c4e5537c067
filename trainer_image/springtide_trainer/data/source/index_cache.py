"""Keeps the index of each file on the storage: a probe reads only files that have changed.

An entry belongs to a path, a size and times. A change that keeps all of them is only possible
within the resolution of the clock, so a file that changed within a minute is read again. Whatever
the index came from, `stream.read_parts` verifies it with the rows that are frozen. A damaged entry
is read again; where none can be written, such as on a full disk, none is kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from springtide_trainer.data.partitions import micros
from springtide_trainer.errors import Refused
from springtide_trainer.storage import (
    file_digest,
    files_in,
    read_committed,
    remove_file,
    replace_file,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from springtide_api.update.data import Data
    from springtide_trainer.data.partitions import Micros
    from springtide_trainer.data.source.files import DataFile
    from springtide_trainer.data.windows.new_data import Bools

log = logging.getLogger(__name__)

FOLDER = "index"
"""Name of the folder of the entries, in the folder of the update."""
SETTLED = timedelta(minutes=1)
"""A file that changed within this time is not kept."""
_FORMAT = 3
"""Rises when the readers give other rows for the same bytes, or an entry has other columns."""
_DIGEST = b"digest"


@dataclass(frozen=True)
class FileIndex:
    """The index of the rows of one file.

    Attributes:
        moment: int64 [rows], microseconds since 1970.
        eligible: bool [rows], the row passes data.holdout.filter.
        keys: Values of the columns `entity`, `group`, `served` and `labelled`, if they are read.
        digest: Digest of all of these.
    """

    moment: Micros
    eligible: Bools
    keys: Mapping[str, pa.DictionaryArray]
    digest: str


class IndexCache:
    """The kept indices of the files of one update.

    Args:
        home: Folder of the update.
        data: The spec: columns, format and filter are part of an entry's name.
        now: The clock.
        scratch: A folder of this pod on the same file system.
        unlabelled: Whether rows may have no label.

    Attributes:
        found: Number of files whose index was kept.
    """

    def __init__(
        self, home: Path, data: Data, now: datetime, scratch: Path, *, unlabelled: bool = False
    ) -> None:
        self._folder = home / FOLDER
        self._scratch = scratch
        self._settled = micros(now - SETTLED) * 1_000
        self._settings = {
            "format": _FORMAT,
            "pyarrow": pa.__version__,
            "source": data.source.format,
            "columns": data.source.columns.plain(),
            "filter": data.holdout.filter.plain() if data.holdout.filter else None,
            **({"unlabelled": True} if unlabelled else {}),
        }
        self._paths = _entries(self._folder)
        self._known = {path.name.split(".")[0]: path for path in sorted(self._paths)}
        self._used: set[Path] = set()
        self.found = 0
        self._bytes = 0
        self._full = False

    def entry(self, file: DataFile) -> str | None:
        """Return the name of the entry of a file; None: the file has just changed."""
        state = file.state()
        if state.changed > self._settled:
            return None
        text = json.dumps([self._settings, state.identity], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def find(self, entry: str | None) -> FileIndex | None:
        """Return the kept index of a file, if there is one that is not damaged."""
        path = self._known.get(entry or "")
        if path is None:
            return None
        try:
            content = read_committed(path)
            if hashlib.sha256(content).hexdigest() != path.name.split(".")[1]:
                raise ValueError(f"{path.name} does not match its digest")
            table = pa.ipc.open_file(pa.py_buffer(content)).read_all().combine_chunks()
            moment, eligible, *keys = (_array(column) for column in table.columns)
            index = FileIndex(
                moment=moment.to_numpy(),
                eligible=eligible.to_numpy(zero_copy_only=False),
                keys=dict(zip(table.column_names[2:], keys, strict=True)),
                digest=table.schema.metadata[_DIGEST].decode(),
            )
        except (OSError, ValueError, KeyError, Refused) as damaged:
            log.warning("damaged index is read again", extra={"error": str(damaged)})
            return None
        self._used.add(path)
        self.found += 1
        return index

    def keep(self, entry: str | None, file: DataFile, index: FileIndex) -> None:
        """Keep the index of a file, unless the file changed since its entry was named.

        As many bytes as the files have that were read must stay free: the space is for the rows.
        """
        self._bytes += file.state().size
        if entry is None or self._full or self.entry(file) != entry:
            return
        written = self._scratch / f"index-{uuid.uuid4()}"
        try:
            _write(index, written)
            if (free := shutil.disk_usage(self._scratch).free) < self._bytes:
                raise OSError(f"{free:,} bytes would stay free for rows of {self._bytes:,} bytes")
            final = self._folder / f"{entry}.{file_digest(written)}.arrow"
            replace_file(written, final, durable=False)
        except (OSError, Refused) as full:
            self._full = True
            written.unlink(missing_ok=True)
            log.warning("the index is not kept", extra={"error": str(full)})
        else:
            self._used.add(final)

    def collect(self, *, every: bool = False) -> None:
        """Remove the entries that no file of this probe has, or every entry."""
        for path in (self._paths | self._used) if every else (self._paths - self._used):
            try:
                remove_file(path)
            except (OSError, Refused) as kept:
                log.warning("index is not removed", extra={"error": str(kept)})


def _entries(folder: Path) -> set[Path]:
    try:
        return {path for path in files_in(folder) if path.suffix == ".arrow"}
    except (OSError, Refused):
        return set()


def _write(index: FileIndex, path: Path) -> None:
    rows = {"moment": pa.array(index.moment), "eligible": pa.array(index.eligible)}
    batch = pa.record_batch({**rows, **index.keys}).replace_schema_metadata(
        {_DIGEST: index.digest.encode()}
    )
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)


def _array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks else pa.array([], column.type)
