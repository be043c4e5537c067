"""The storage layout of an update, and atomic writes to it.

Writers fill a folder of their own below `tmp/`, then rename it to its final path. The rename never
replaces anything: no partly written folder is ever at a final path, and the first writer wins.
A storage in an object store is a `Remote`: paths are then those of copies on the pod's disk.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import time
import uuid
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from springtide_api.warm_up import SUFFIX as WARM_UP_SUFFIX
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from springtide_trainer.remote import Remote

LOCAL_RUNS = "local.json"
"""Generations of `springtide-trainer run`, in the folder of an update."""
TOKENS = "tokens-"
"""How the name of a folder of tokens begins."""

_NO_LINKS = {errno.EOPNOTSUPP, errno.EPERM, errno.ENOSYS}
"""What a file system without hard links answers, such as SMB or FAT."""

_REMOTE: ContextVar[Remote | None] = ContextVar("remote", default=None)


@contextmanager
def kept_by(remote: Remote) -> Iterator[None]:
    """Read and commit through a remote storage in this block."""
    token = _REMOTE.set(remote)
    try:
        yield
    finally:
        _REMOTE.reset(token)


def remote_of(path: Path) -> Remote | None:
    """Return the object store that a path of the storage is a copy of; None on a claim."""
    remote = _REMOTE.get()
    return remote if remote is not None and remote.uri(path) else None


class Home:
    """The folder of one update: `<storage>/<namespace>/<update>`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def artifact(self, digest: str) -> Path:
        """Return the folder of the artifact with this digest (`sha256:<hex>`)."""
        return self.path / "artifacts" / folder_name(digest)

    def data(self, digest: str, copy: int = 1) -> Path:
        """Return the folder of the frozen rows with this manifest digest, or of a copy of them."""
        name = folder_name(digest)
        return self.path / "data" / (name if copy == 1 else f"{name}.{copy}")

    def buffer(self, digest: str) -> Path:
        """Return the folder of the replay buffer with this digest."""
        return self.path / "buffers" / folder_name(digest)

    def checkpoints(self, number: int) -> Path:
        """Return the folder of a generation's checkpoints, shared by its attempts."""
        return self.path / "checkpoints" / f"g{number}"

    def result(self, name: str) -> Path:
        """Return the file of a committed result."""
        return self.path / "results" / f"{name}.json"

    def report(self, job: str) -> Path:
        """Return the folder of an evaluation's report."""
        return self.path / "reports" / job

    def scratch(self, job: str, pod_uid: str) -> Path:
        """Return the path of this pod's scratch folder."""
        return self.path / "tmp" / f"{job}-{pod_uid}"

    @contextmanager
    def tmp(self, job: str, pod_uid: str) -> Iterator[Path]:
        """Create this pod's empty scratch folder, and remove it at the end of the block."""
        folder = self.scratch(job, pod_uid)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def sweep(self, job: str, spare: float = 0.0) -> None:
        """Remove scratch folders of killed attempts at the same stage.

        Args:
            job: The Job of this attempt.
            spare: Keep folders younger than this many seconds: their pods may still run.
        """
        attempts = job.rpartition("-")[0]
        if remote := remote_of(self.path):
            remote.sweep(attempts, spare)
        for left in (self.path / "tmp").glob(f"{attempts}-*"):
            if not spare or time.time() - left.lstat().st_mtime > spare:
                shutil.rmtree(left, ignore_errors=True)

    def sweep_tokenizing(self, number: int) -> None:
        """Remove scratch folders of pods that tokenized for a training, which is over.

        One that still runs ends: it keeps nothing more.
        """
        for left in (self.path / "tmp").glob(f"*-g{number}-tokenize-*"):
            shutil.rmtree(left, ignore_errors=True)

    def discard_tokens(self, number: int) -> None:
        """Delete tokens that were kept for a training, which is over.

        Other folders beside them stay: those of its evaluation.
        """
        room = self.checkpoints(number)
        for folder in committed_folders(room):
            if folder.name.startswith(TOKENS):
                forget(folder)
                shutil.rmtree(folder, ignore_errors=True)
        with suppress(OSError):  # it has something else, or does not exist
            room.rmdir()


def folder_name(digest: str) -> str:
    """Return the folder name of a digest: `sha256:<hex>` becomes `sha256-<hex>`."""
    return digest.replace(":", "-", 1)


def digest_of(name: str) -> str:
    """Return the digest in the name of a folder, or of a copy: `sha256-<hex>.2` has one, too."""
    return name.partition(".")[0].replace("-", ":", 1)


def warm_up_file(artifact: Path) -> Path:
    """Return the file of the warm-up queries of the artifact in this folder, which is beside it."""
    return artifact.with_name(artifact.name + WARM_UP_SUFFIX)


def local_path(uri: str, field: str = "", only: Collection[str] = ()) -> Path:
    """Return the path of a `file://` URI, or of a copy of what is in an object store.

    Args:
        uri: The URI.
        field: Field of the spec that has it, for messages.
        only: Names of the files of a folder that are needed; others are not copied. Empty: all.

    Raises:
        Refused: the URI has another scheme, a host, a query or `..`; or it cannot be copied.
    """
    parts, remote = urlsplit(uri), _REMOTE.get()
    if remote is not None and parts.scheme not in {"file", ""}:
        return remote.fetch(uri, field, only)
    path = Path(unquote(parts.path))
    if parts.scheme != "file" or parts.netloc or not path.is_absolute() or ".." in path.parts:
        raise Refused("InvalidUri", f"{uri!r} must be a file:/// URI without '..'", field)
    if "?" in uri or "#" in uri:  # a URI ends there: it would be another path
        what = f"{uri!r} has a '?' or '#'; write %3F or %23 for it, or rename the file or folder"
        raise Refused("InvalidUri", what, field)
    return path


def local_place(uri: str, field: str = "") -> Path:
    """Return the path of a URI as `local_path`, without making a copy."""
    remote = _REMOTE.get()
    if remote is None or urlsplit(uri).scheme in {"file", ""}:
        return local_path(uri, field)
    return remote.local(uri, field)


def uri_of(path: Path) -> str:
    """Return the URI of an absolute path."""
    remote = _REMOTE.get()
    return (remote and remote.uri(path)) or path.as_uri()


def commit_folder(tmp: Path, final: Path) -> bool:
    """Move a complete folder to its final path, durably, unless the path already exists.

    Both must be on one file system. Returns False, with `tmp` unchanged, if the path exists.
    """
    if (remote := remote_of(final)) and remote.keeps(final):
        return remote.commit_folder(tmp, final)
    final.parent.mkdir(parents=True, exist_ok=True)
    for folder, _, files in os.walk(tmp):
        for name in files:
            sync(Path(folder) / name)
        sync(Path(folder))
    try:
        tmp.rename(final)
    except OSError as taken:
        if taken.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
            return False
        raise
    sync(final.parent)
    return True


def commit_content(tmp: Path, final: Path, known: Mapping[str, str] | None = None) -> bool:
    """Commit a folder that is named by its content: an existing one is used again, so it is new.

    The stage `collect` deletes only what is old.

    Args:
        tmp: The folder.
        final: Its path.
        known: SHA-256 of files, by their path in the folder: 64 hex digits. Others are hashed.
    """
    if remote := remote_of(final):
        return remote.commit_content(tmp, final, known or {})
    while not commit_folder(tmp, final):
        with suppress(FileNotFoundError):  # collected at this moment: commit it again
            os.utime(final)
            return False
    return True


def commit_file(tmp: Path, final: Path) -> bool:
    """Move a complete file to its final path, durably, unless the path already exists.

    Returns False, with `tmp` unchanged, if the path exists.
    """
    if remote := remote_of(final):
        return remote.commit_file(tmp, final)
    final.parent.mkdir(parents=True, exist_ok=True)
    sync(tmp)
    try:
        final.hardlink_to(tmp)
    except FileExistsError:
        return False
    tmp.unlink()
    sync(final.parent)
    return True


def replace_file(tmp: Path, final: Path, *, durable: bool = True) -> None:
    """Move a complete file to its path; one that is there is replaced.

    Args:
        tmp: The file.
        final: Its path.
        durable: It must survive a crash of the machine.
    """
    if remote := remote_of(final):
        remote.replace_file(tmp, final)
        return
    final.parent.mkdir(parents=True, exist_ok=True)
    if durable:
        sync(tmp)
    tmp.replace(final)
    if durable:
        sync(final.parent)


def remove_file(final: Path) -> None:
    """Delete a file that `replace_file` wrote, if it is there."""
    if remote := remote_of(final):
        remote.remove_file(final)
    final.unlink(missing_ok=True)


def files_in(room: Path) -> list[Path]:
    """Return the files in a folder of the storage that is not committed as a whole.

    Raises:
        FileNotFoundError: there is no such folder on a claim.
    """
    if remote := remote_of(room):
        return remote.files(room)
    return list(room.iterdir())


def read_committed(final: Path) -> bytes:
    """Return the content of a committed file.

    Raises:
        FileNotFoundError: it is not committed.
    """
    remote = remote_of(final)
    return final.read_bytes() if remote is None else remote.read(final)


def committed_folders(room: Path) -> list[Path]:
    """Return the committed folders in a folder; none if it does not exist."""
    if remote := remote_of(room):
        return remote.committed(room)
    return list(room.iterdir()) if room.is_dir() else []


def forget(folder: Path) -> None:
    """Delete a folder from the object store, if the storage is in one."""
    if remote := remote_of(folder):
        remote.forget(folder)


def check_storage(home: Home) -> None:
    """Check that commits are safe in the storage.

    Raises:
        Refused: an object store would let two writers commit the same result, or a file system
            cannot keep the second one from it.
    """
    if remote := remote_of(home.path):
        remote.check()
        return
    folder = home.path / "tmp" / f"check-{uuid.uuid4()}"
    folder.mkdir(parents=True)
    try:
        (folder / "file").touch()
        _check_hard_links(folder / "file", home)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_hard_links(file: Path, home: Home) -> None:
    """Refuse a file system without hard links, by which `commit_file` never replaces a file."""
    try:
        file.with_name("link").hardlink_to(file)
    except OSError as missing:
        if missing.errno not in _NO_LINKS:
            raise
        raise Refused(
            "UnsafeStorage",
            f"the file system of {home.path} has no hard links ({missing.strerror}), without which "
            "two pods could overwrite each other's results: use a claim of another storage class, "
            "such as one of NFS or CephFS, or an object store",
            "spec.storage.volume.claimName",
        ) from missing


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Flush a file's bytes, or a folder's entries, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
