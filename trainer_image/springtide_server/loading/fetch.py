"""Copies an artifact from its storage into an empty folder and checks it meanwhile.

The only place that knows how the storage is read; another kind of storage is another branch here.
"""

from __future__ import annotations

import hashlib
import stat
from typing import TYPE_CHECKING

from springtide_trainer.artifact import manifest
from springtide_trainer.errors import Refused
from springtide_trainer.objects import folders
from springtide_trainer.objects.store import READABLE, Place, Store, is_object_uri, place_of
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BLOCK = 4 << 20
"""Bytes of one read, one step of the SHA-256 and one write."""


def place(uri: str) -> Path | Place:
    """Return where an artifact is: a folder on a claim, or a place in an object store.

    Raises:
        Refused: InvalidUri, the URI is of neither.
    """
    if is_object_uri(uri):
        return place_of(uri, "MODEL_URI")
    try:
        return local_path(uri, "MODEL_URI")
    except Refused as refused:
        what = f"{uri!r} must be {READABLE}, without '..' and '?'"
        raise Refused("InvalidUri", what, "MODEL_URI") from refused


def fetch(uri: str, digest: str, folder: Path, *, reserve: Callable[[int], None]) -> None:
    """Copy the files that the manifest with this digest lists, and no other.

    Args:
        uri: URI of the artifact, on a claim or in an object store.
        digest: `sha256:` and 64 hex digits.
        folder: An empty folder.
        reserve: Called with the bytes of all files before the first one is written.

    Raises:
        Refused: a file is missing, is a link, or is not the one of the manifest.
        OSError: a file cannot be read or written.
    """
    source = place(uri)
    if isinstance(source, Place):
        _download(source, digest, folder, reserve)
        return
    files = manifest.read_manifest(source, digest)
    own = {"path": manifest.MANIFEST, "sha256": digest.removeprefix("sha256:")}
    files = [*files, {**own, "size": (source / manifest.MANIFEST).stat().st_size}]
    reserve(sum(file["size"] for file in files))
    for file in files:
        target = folder / file["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(source / file["path"], target, file["sha256"], size=file["size"])


def _download(source: Place, digest: str, folder: Path, reserve: Callable[[int], None]) -> None:
    store = Store(source.bucket)
    found = folders.committed(store, source.key)
    if found is None:
        raise Refused("DigestMismatch", f"{source} does not exist; expected artifact {digest}")
    reserve(sum(size for size, _ in found.files.values()))
    folders.download(store, source.key, found, folder)
    manifest.read_manifest(folder, digest)


def _copy(source: Path, target: Path, sha256: str, *, size: int) -> None:
    status = source.lstat()
    if not stat.S_ISREG(status.st_mode) or status.st_size != size:
        raise Refused("DigestMismatch", f"{source} is not a file of {size} bytes")
    digest = hashlib.sha256()
    with source.open("rb", buffering=0) as reading, target.open("xb") as writing:
        while block := reading.read(BLOCK):
            digest.update(block)
            writing.write(block)
    if digest.hexdigest() != sha256:
        raise Refused("DigestMismatch", f"{source} is not the file of its manifest")
