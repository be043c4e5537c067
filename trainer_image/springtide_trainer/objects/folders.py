"""Folders in an object store: committed as a whole, though a store only has single objects.

The files of a folder are uploaded below it under the name of their writer. Then `commit.json` is
created, once: it names the writer and has the size and the digest of each file. A folder without it
does not exist, and files that it does not name are left from a writer that was killed or was later.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from springtide_api.contract import ExitCode
from springtide_trainer.errors import Refused
from springtide_trainer.objects.store import AT_ONCE, CHUNK, Changed, Unsupported
from springtide_trainer.storage import file_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from concurrent.futures import Future
    from datetime import datetime
    from pathlib import Path

    from springtide_trainer.objects.store import Entry, Place, Store

COMMIT = "commit.json"
UNSAFE_WEIGHTS = frozenset(
    {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack", ".ot"}
)


@dataclass(frozen=True)
class Committed:
    """A committed folder.

    Attributes:
        writer: Name of the folder below it that holds its files.
        files: Size and SHA-256 (64 hex digits) of each file, by its path in the folder.
        written: When it was committed, by the clock of the store; None: not yet.
    """

    writer: str
    files: dict[str, tuple[int, str]]
    written: datetime | None = None

    def reduced(self, only: Collection[str]) -> Committed:
        """Return the folder with these files alone; all if none is named."""
        files = {path: of for path, of in self.files.items() if not only or path in only}
        return Committed(self.writer, files, self.written)

    def content(self) -> bytes:
        """Return the content of `commit.json`."""
        files = [
            {"path": path, "size": size, "sha256": digest}
            for path, (size, digest) in sorted(self.files.items())
        ]
        return json.dumps({"writer": self.writer, "files": files}, indent=1).encode()


def committed(store: Store, key: str) -> Committed | None:
    """Return what is committed as the folder `key`; None if nothing is.

    Raises:
        Refused: DigestMismatch, `commit.json` is damaged.
    """
    path = f"{key}/{COMMIT}"
    try:
        written = store.head(path).modified
        content = store.read(path)
    except FileNotFoundError:
        return None
    try:
        found = json.loads(content)
        files = {
            str(file["path"]): (int(file["size"]), str(file["sha256"])) for file in found["files"]
        }
        names = [part for path in files for part in path.split("/")]
        if {"", ".", ".."} & {*names, str(found["writer"])}:
            raise ValueError("a path leads out of the folder")
        return Committed(str(found["writer"]), files, written)
    except (ValueError, KeyError, TypeError) as wrong:
        what = f"{store.bucket}/{path} is damaged ({wrong!r}); restore the folder from a copy"
        raise Refused("DigestMismatch", what) from wrong


def upload(
    store: Store, folder: Path, key: str, writer: str, known: Mapping[str, str] | None = None
) -> Committed:
    """Upload the files of a folder, without committing it; hash those whose digest is not known."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            store.put(f"{key}/{writer}/{name}", path)
            digest = (known or {}).get(name) or file_digest(path)
            files[name] = (path.stat().st_size, digest)
    return Committed(writer, files)


def same(store: Store, key: str, found: Committed, folder: Path) -> bool:
    """Return whether a committed folder has the files of another one, and the store all of them."""
    mine = {
        path.relative_to(folder).as_posix(): (path.stat().st_size, file_digest(path))
        for path in folder.rglob("*")
        if path.is_file()
    }
    return found.files == mine and complete(store, key, found)


def complete(store: Store, key: str, found: Committed) -> bool:
    """Return whether the store has the files of a committed folder, by their sizes."""
    prefix = f"{key}/{found.writer}"
    there = {entry.key.removeprefix(f"{prefix}/"): entry.size for entry in store.list(prefix)}
    return there == {path: size for path, (size, _) in found.files.items()}


def download(store: Store, key: str, found: Committed, folder: Path) -> None:
    """Write the files of a committed folder to a new or empty one, and verify their digests.

    Raises:
        Refused: DigestMismatch, a file is missing or damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, (size, digest) in found.files.items():
        path = f"{key}/{found.writer}/{name}"
        try:
            entry = store.head(path)
            if entry.size == size and save(store, entry, folder / name) == digest:
                continue
            what = "does not match the digest of its commit"
        except FileNotFoundError:
            what = "is missing"
        except Changed:
            what = "was replaced"
        raise Refused(
            "DigestMismatch", f"{store.bucket}/{path} {what}; restore the folder from a copy"
        )


def download_plain(store: Store, place: Place, folder: Path, field: str) -> None:
    """Write the files of a folder that was not committed by this project, such as a user's model.

    Of weights in a format that can run code only the name is kept: nothing may load them.

    Raises:
        Refused: there are no files, or one was replaced meanwhile.
    """
    entries = _files(store, place.key)
    if not entries:
        what = f"{place.uri} has no files; copy them there, or change the URI"
        raise Refused("MissingModel", what, field)
    folder.mkdir(parents=True)
    for entry in entries:
        path = folder / entry.key.removeprefix(place.key).lstrip("/")
        if not path.resolve().is_relative_to(folder.resolve()):
            raise Refused("UnsafeArtifact", f"{entry.key!r} leads out of {place.uri}", field)
        try:
            if path.suffix in UNSAFE_WEIGHTS:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            else:
                save(store, entry, path)
        except (Changed, FileNotFoundError) as changed:
            what = f"{entry.key} changed while {place.uri} was read; try again"
            raise Refused("StorageUnavailable", what, field, ExitCode.ENVIRONMENT) from changed


def _files(store: Store, key: str) -> list[Entry]:
    """List the objects below a key without those that mark a folder."""
    entries = list(store.list(key))
    above = {key} | {entry.key.rpartition("/")[0] for entry in entries}
    return [each for each in entries if each.key not in above and not store.is_folder(each)]


def save(store: Store, entry: Entry, path: Path) -> str:
    """Write an object to a file, of which only some chunks are in memory; return its SHA-256.

    Raises:
        Changed: the object was replaced meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    found = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in _chunks(store, entry):
            found.update(chunk)
            file.write(chunk)
    return found.hexdigest()


def _chunks(store: Store, entry: Entry) -> Iterator[bytes]:
    """Read an object in order, some chunks ahead."""
    starts = iter(range(0, entry.size, CHUNK))

    def ask(pool: ThreadPoolExecutor, some: Iterable[int]) -> list[Future[bytes]]:
        return [
            pool.submit(store.read_range, entry.key, start, end, entry.etag or None)
            for start in some
            for end in [min(start + CHUNK, entry.size)]
        ]

    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = ask(pool, islice(starts, AT_ONCE))
        while waiting:
            yield waiting.pop(0).result()
            waiting += ask(pool, islice(starts, 1))


def check_create_once(store: Store, key: str) -> None:
    """Check that the store refuses to create an object twice, as commits need it.

    Args:
        store: The store.
        key: A folder in it.

    Raises:
        Refused: it does not.
    """
    path = f"{key}/create-once-{uuid.uuid4()}"
    try:
        if store.create(path, b"first") and not store.create(path, b"second"):
            return
        what = "replaces an object that it was asked only to create: it ignores If-None-Match"
    except Unsupported as missing:
        what = f"has no conditional writes ({missing})"
    finally:
        store.delete([path])
    raise Refused(
        "UnsafeStorage",
        f"the object store of {store.bucket} {what}; two pods could overwrite each other's results:"
        " use a store with conditional writes (PUT with If-None-Match: *)",
        "spec.storage.uri",
    )
