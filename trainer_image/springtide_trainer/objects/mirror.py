"""The storage of an update in an object store, through copies of its folders on this pod's disk.

The stages read and commit folders of a local disk. While a mirror is in effect, `storage` asks it
for what is in the store and hands it what is committed: a commit returns when the store has it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING

from springtide_trainer.errors import Refused
from springtide_trainer.objects import folders
from springtide_trainer.objects.folders import COMMIT
from springtide_trainer.objects.store import CHECKING, Store, place_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    from springtide_trainer.objects.folders import Committed
    from springtide_trainer.objects.store import Entry, Place

CONTENT = ("artifacts", "buffers")
"""Where folders are named by the digest of their content."""
DEPTH = {"artifacts": 2, "buffers": 2, "data": 2, "reports": 2, "checkpoints": 3}
"""Names in the path of a folder that is committed as a whole, by the first of them."""


class Mirror:
    """Copies of folders, and where they are committed.

    Args:
        scratch: A folder of this pod, for copies of what is not in the storage.
        root: The folder of the update on this disk.
        home: The folder of the update in an object store. None: it is `root` itself.
        writer: Name of this process, under which it uploads: Job and uid of the pod.
        opened: Opens a bucket.
    """

    def __init__(
        self,
        scratch: Path,
        *,
        root: Path,
        home: str | None = None,
        writer: str = "",
        opened: Callable[[str], Store] = Store,
    ) -> None:
        self._scratch = scratch
        self._root = root
        self._home = place_of(home, "spec.storage.uri") if home else None
        self._writer = writer
        self._opened = cache(opened)
        self._kept: list[Path] = []

    def uri(self, path: Path) -> str | None:
        """Return the URI of a path below the folder of the update; None for another path."""
        if self._home is None or not path.is_relative_to(self._root):
            return None
        return self._place(path).uri

    def local(self, uri: str, field: str = "") -> Path:
        """Return where the copy of a URI is, or would be."""
        place, home = place_of(uri, field), self._home
        if home is not None and place.bucket == home.bucket:
            below = place.key.removeprefix(f"{home.key}/")
            if below != place.key:
                return self._root / below
        name = hashlib.sha256(place.uri.encode()).hexdigest()[:16]
        return self._scratch / name / (place.key.rpartition("/")[2] or "bucket")

    def fetch(self, uri: str, field: str = "", only: Collection[str] = ()) -> Path:
        """Return a copy of a folder, which is downloaded once; of no folder there is none.

        Args:
            uri: The folder.
            field: Field of the spec that names it, for messages.
            only: Names of the files that are needed; empty: all.

        Raises:
            Refused: a file does not match the digest of the commit, or a folder outside of the
                storage has no files.
        """
        path, place = self.local(uri, field), place_of(uri, field)
        if only:
            names = hashlib.sha256("/".join(sorted(only)).encode()).hexdigest()[:16]
            path = self._scratch / names / path.name
        if path.exists():
            return path
        store = self._opened(place.bucket)
        copy = path.with_name(f".{path.name}-{uuid.uuid4()}")
        try:
            found = folders.committed(store, place.key)
            if found is not None:
                folders.download(store, place.key, found.reduced(only), copy)
            elif self.uri(self.local(uri)) is None:
                folders.download_plain(store, place, copy, field)
            if copy.exists():
                _move(copy, path)
                _set_time(path, found)
        finally:
            shutil.rmtree(copy, ignore_errors=True)
        return path

    def keeps(self, path: Path) -> bool:
        """Return whether a path of this disk stands for a folder or file of the store."""
        if self._home is None or not path.is_relative_to(self._root):
            return False
        parts = path.relative_to(self._root).parts
        return bool(parts) and (parts[0] == "results" or len(parts) == DEPTH.get(parts[0]))

    def read(self, final: Path) -> bytes:
        """Return the content of a committed file.

        Raises:
            FileNotFoundError: it is not committed.
        """
        return self._store.read(self._place(final).key)

    def commit_file(self, tmp: Path, final: Path) -> bool:
        """Create the file, unless there is one of another content; first confirm all folders."""
        for folder in self._kept:
            key = self._place(folder).key
            found = folders.committed(self._store, key)
            if found is None or not folders.complete(self._store, key, found):
                self._commit_content(folder, key)
        if not self._store.create(self._place(final).key, tmp.read_bytes()):
            return False
        tmp.unlink()
        return True

    def replace_file(self, tmp: Path, final: Path) -> None:
        """Write a file, or replace it; `tmp` is deleted."""
        self._store.put(self._place(final).key, tmp)
        tmp.unlink()

    def remove_file(self, final: Path) -> None:
        """Delete a file, if it is there."""
        self._store.delete([self._place(final).key])

    def commit_folder(self, tmp: Path, final: Path) -> bool:
        """Upload a folder and commit it, unless one is committed: then `tmp` is unchanged."""
        key = self._place(final).key
        if folders.committed(self._store, key) is not None:
            return False
        made = folders.upload(self._store, tmp, key, self._writer)
        if not self._store.create(f"{key}/{COMMIT}", made.content()):
            self._delete(f"{key}/{made.writer}")
            return False
        _keep(tmp, final)
        return True

    def commit_content(
        self, tmp: Path, final: Path, known: Mapping[str, str] | None = None
    ) -> bool:
        """Commit a folder that is named by its content. A committed one is new again.

        A damaged one is replaced, so there always is one afterwards, and its copy is `final`.
        """
        self._commit_content(tmp, self._place(final).key, known)
        _keep(tmp, final)
        self._kept.append(final)
        return True

    def _commit_content(
        self, folder: Path, key: str, known: Mapping[str, str] | None = None
    ) -> None:
        store, commit = self._store, f"{key}/{COMMIT}"
        try:
            found = folders.committed(store, key)
        except Refused:
            found = folders.Committed("", {})
        if found is None:
            made = folders.upload(store, folder, key, self._writer, known)
            if store.create(commit, made.content()):
                return
            self._delete(f"{key}/{made.writer}")
            found = folders.committed(store, key)
        if found is None or not folders.same(store, key, found, folder):
            found = folders.upload(store, folder, key, self._writer)
        store.put(commit, found.content())

    def folders(self, room: Path) -> dict[Path, datetime]:
        """Return what is in a folder of the storage, with the time of the newest file of each.

        Folders that are not committed are among them: they are left by a writer that was killed.
        """
        found: dict[Path, datetime] = {}
        for name, _, entry in self._below(room):
            folder = room / name
            found[folder] = max(entry.modified, found.get(folder, entry.modified))
        return found

    def files(self, room: Path) -> list[Path]:
        """Return the files in a folder of the storage that is not committed as a whole."""
        return [room / name for name, rest, _ in self._below(room) if not rest]

    def committed(self, room: Path) -> list[Path]:
        """Return the committed folders in a folder of the storage."""
        return [room / name for name, rest, _ in self._below(room) if rest == COMMIT]

    def forget(self, folder: Path) -> None:
        """Delete a folder from the store."""
        self._delete(self._place(folder).key)

    def sweep(self, attempts: str, spare: float) -> None:
        """Delete what killed attempts at a stage uploaded and did not commit.

        Args:
            attempts: Name of the Job without the number of the attempt.
            spare: Keep files that are younger, in seconds: their pods may still run.
        """
        left: dict[str, list[Entry]] = {}
        for entry in self._store.list(self._place(self._root).key):
            parts = entry.key.removeprefix(f"{self._place(self._root).key}/").split("/")
            depth = DEPTH.get(parts[0], len(parts))
            if depth < len(parts) - 1 and parts[depth].startswith(f"{attempts}-"):
                key = self._place(self._root.joinpath(*parts[: depth + 1])).key
                left.setdefault(key, []).append(entry)
        for key, entries in left.items():
            folder, _, writer = key.rpartition("/")
            found = folders.committed(self._store, folder)
            age = (datetime.now(UTC) - max(entry.modified for entry in entries)).total_seconds()
            if (found is None or found.writer != writer) and (not spare or age > spare):
                self._store.delete([entry.key for entry in entries])

    def check(self) -> None:
        """Check that the store can keep commits: that it creates an object only once.

        Raises:
            Refused: it cannot.
        """
        if self._home is not None:
            scratch = self._place(self._root / "tmp").key
            folders.check_create_once(Store(self._home.bucket, CHECKING), scratch)

    @property
    def _store(self) -> Store:
        assert self._home is not None
        return self._opened(self._home.bucket)

    def _place(self, path: Path) -> Place:
        assert self._home is not None
        below = path.relative_to(self._root).as_posix()
        return self._home if below == "." else self._home / below

    def _below(self, room: Path) -> Iterator[tuple[str, str, Entry]]:
        """List the objects in a folder, each with the names of its folder and of its file in it."""
        key = self._place(room).key
        for entry in self._store.list(key):
            name, _, rest = entry.key.removeprefix(f"{key}/").partition("/")
            yield name, rest, entry

    def _delete(self, key: str) -> None:
        """Delete what is below a key, commits first: a folder is complete or does not exist."""
        keys = [entry.key for entry in self._store.list(key)]
        commits = [each for each in keys if each.rpartition("/")[2] == COMMIT]
        self._store.delete(commits)
        self._store.delete([each for each in keys if each not in commits])


def _keep(tmp: Path, final: Path) -> None:
    """Make a committed folder its own copy, if nothing is there."""
    if not final.exists():
        final.parent.mkdir(parents=True, exist_ok=True)
        tmp.rename(final)


def _move(copy: Path, path: Path) -> None:
    """Move a copy to its place, unless another process of this pod was faster."""
    try:
        copy.rename(path)
    except OSError:
        if not path.exists():
            raise


def _set_time(path: Path, found: Committed | None) -> None:
    """Give a copy the time of its commit."""
    if found is not None and found.written is not None:
        os.utime(path, (found.written.timestamp(),) * 2)
