"""A folder that the pods of a node share: the first one copies an artifact, the others use it.

    <folder>/sha256-<hex>            an artifact; complete, because it is renamed to this name
    <folder>/sha256-<hex>.partial    an artifact that is being copied or removed

Everything else in the folder is left alone. Who changes these two holds the folder's lock; who uses
an artifact holds a shared lock of it until the process ends, so that it is not evicted.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from springtide_server.loading import locks
from springtide_server.loading.fetch import fetch
from springtide_trainer.storage import folder_name

if TYPE_CHECKING:
    from collections.abc import Iterator

_OURS = re.compile(r"sha256-[0-9a-f]{64}(\.partial)?")


class NoRoom(Exception):
    """The artifact does not fit beside those that processes hold."""


@dataclass(frozen=True)
class Entry:
    """A cached artifact that is not evicted until it is released, or this process ends."""

    folder: Path
    handle: int
    copied: bool = False
    """Whether this process copied it."""

    def release(self) -> None:
        """Allow that it is evicted. Call it once."""
        os.close(self.handle)


class NodeCache:
    """The artifacts of a folder.

    Args:
        folder: An existing folder of the node.
        limit: Maximum bytes of all artifacts in it.
    """

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder = folder
        self._limit = limit

    def entry(self, uri: str, digest: str) -> Entry:
        """Return an artifact; copy it first if no process of the node has done so. Blocking.

        The files were compared with the digest when they were copied. Others may have written to
        them since, so the caller verifies them again.

        Raises:
            Refused: the storage does not have the files of this digest.
            NoRoom: the artifact is larger than the limit, or than the room that can be made.
            Stalled: the process that copies makes no progress.
            OSError: the folder or the storage cannot be used.
        """
        if found := self._hold(digest):
            return found
        with locks.alone(self._folder, self._bytes):
            if found := self._hold(digest):
                return found
            self._copy(uri, digest)
            made = self._hold(digest, copied=True)
        if made is None:
            raise FileNotFoundError(f"{self._path(digest)} was removed while it was made")
        return made

    def discard(self, entry: Entry) -> None:
        """Release an entry whose files are wrong, and remove it if no other process has."""
        try:
            with locks.alone(self._folder, self._bytes):
                if locks.is_at(entry.handle, entry.folder):
                    self._remove(entry.folder)
        finally:
            entry.release()

    def _hold(self, digest: str, *, copied: bool = False) -> Entry | None:
        """Hold an artifact; None if there is none, or it is being removed."""
        folder = self._path(digest)
        try:
            handle = locks.open_folder(folder)
        except FileNotFoundError:
            return None
        if locks.share(handle) and locks.is_at(handle, folder):
            with suppress(OSError):  # read-only, or of another user: then it looks older than it is
                os.utime(folder)
            return Entry(folder, handle, copied)
        os.close(handle)
        return None

    def _copy(self, uri: str, digest: str) -> None:
        folder = self._path(digest)
        for left in self._folders(partial=True):
            shutil.rmtree(left, ignore_errors=True)
        if folder.exists():  # a process that is none of ours has locked it
            self._remove(folder)
        partial = _partial(folder)
        partial.mkdir()
        try:
            fetch(uri, digest, partial, reserve=self._make_room)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise

    def _make_room(self, size: int) -> None:
        """Remove artifacts that no process holds, the least recently used first."""
        if size > self._limit:
            raise NoRoom(f"{size:,} bytes are more than MODEL_CACHE_BYTES, {self._limit:,}")
        oldest_first = sorted(self._folders(), key=lambda folder: folder.lstat().st_mtime)
        while size > (room := self._room()):
            if not oldest_first:
                raise NoRoom(f"{size:,} bytes are needed, and there is room for {max(0, room):,}")
            self._evict(oldest_first.pop(0))

    def _room(self) -> int:
        return min(self._limit - self._bytes(), shutil.disk_usage(self._folder).free)

    def _evict(self, folder: Path) -> None:
        """Remove an artifact, unless a process holds it or it belongs to another user."""
        with suppress(OSError):
            self._remove_unheld(folder)

    def _remove_unheld(self, folder: Path) -> None:
        handle = locks.open_folder(folder)
        try:
            if locks.seize(handle):
                self._remove(folder)
        finally:
            os.close(handle)

    def _remove(self, folder: Path) -> None:
        partial = _partial(folder)
        shutil.rmtree(partial, ignore_errors=True)
        folder.rename(partial)
        shutil.rmtree(partial)

    def _bytes(self) -> int:
        """Return the bytes of all files of artifacts, partly copied ones included."""
        total = 0
        for folder in (*self._folders(), *self._folders(partial=True)):
            for parent, _, files in os.walk(folder):
                for name in files:
                    with suppress(FileNotFoundError):  # renamed or removed meanwhile
                        total += Path(parent, name).lstat().st_size
        return total

    def _folders(self, *, partial: bool = False) -> Iterator[Path]:
        for path in self._folder.iterdir():
            if (ours := _OURS.fullmatch(path.name)) and bool(ours[1]) is partial:
                yield path

    def _path(self, digest: str) -> Path:
        return self._folder / folder_name(digest)


def _partial(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.partial")
