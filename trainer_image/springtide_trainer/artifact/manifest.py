"""Artifacts: folders of weights, tokenizer and preprocessing, addressed by a manifest's digest.

Weights are not opened here. Every file of a folder is verified before anything loads it.
"""

from __future__ import annotations

import hashlib
import json
import stat
import uuid
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from springtide_api.contract import CommittedArtifact
from springtide_trainer.errors import Refused
from springtide_trainer.storage import commit_content, file_digest, uri_of

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from springtide_trainer.storage import Home

MANIFEST = "springtide-manifest.json"
MANIFEST_LIMIT = 1 << 20
"""Maximum bytes of a manifest, enough for about ten thousand files."""
SAFE_SUFFIXES = frozenset({".safetensors", ".onnx", ".json", ".txt", ".model"})
"""Weights, graphs, configuration, vocabularies: no format that runs code when it is loaded."""
_RESTORE = "restore the folder from a copy"


def write_manifest(folder: Path) -> str:
    """Write the manifest of all files of a folder and return its digest, `sha256:<hex>`."""
    files: list[dict[str, Any]] = [
        {
            "path": path.relative_to(folder).as_posix(),
            "sha256": file_digest(path),
            "size": path.stat().st_size,
        }
        for path in _files(folder)
        if path.name != MANIFEST
    ]
    files.sort(key=lambda file: file["path"])
    text = json.dumps({"files": files}, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return f"sha256:{file_digest(folder / MANIFEST)}"


def commit(
    folder: Path, home: Home, head: Literal["Trained", "Seeded"] = "Trained"
) -> CommittedArtifact:
    """Move a complete folder to the artifacts, under the digest of its content.

    An existing artifact of the same content is kept; a damaged one is replaced.
    """
    digest = write_manifest(folder)
    size = sum(path.stat().st_size for path in _files(folder))
    final = home.artifact(digest)
    known = {str(file["path"]): str(file["sha256"]) for file in read_manifest(folder, digest)}
    if not commit_content(folder, final, known):
        try:
            verify(final, digest)
        except Refused:
            final.rename(folder.with_name(f"damaged-{uuid.uuid4()}"))
            commit_content(folder, final)
            verify(final, digest)
    return CommittedArtifact(uri=uri_of(final), digest=digest, bytes=size, head=head)


def verify(folder: Path, digest: str, *, unread: Collection[str] = ()) -> None:
    """Check that a folder has exactly the files of the manifest with this digest.

    Args:
        folder: The folder.
        digest: Digest of its manifest.
        unread: Suffixes of files that nothing reads: they may be missing, and are not verified.

    Raises:
        Refused: DigestMismatch if a file differs, is missing or is not in the manifest;
            UnsafeArtifact if a file could run code or is outside the folder.
    """
    if not folder.is_dir() or folder.is_symlink():
        raise _digest_mismatch(f"{folder} is not a folder; expected artifact {digest}")
    files = {PurePosixPath(file["path"]): file for file in read_manifest(folder, digest)}
    known = {path.as_posix(): file for path, file in files.items() if path.suffix not in unread}
    found = [path for path in _files(folder) if path.suffix not in unread]
    present = {path.relative_to(folder).as_posix(): path for path in found}
    present.pop(MANIFEST, None)
    if odd := sorted(set(known) ^ set(present)):
        raise _digest_mismatch(
            f"{folder}: {len(odd)} files are only in the folder or only in its manifest {digest}, "
            f"such as {odd[0]!r}"
        )
    for name, path in sorted(present.items()):
        _check(name, path, known[name])


def read_manifest(folder: Path, digest: str) -> list[dict[str, Any]]:
    """Read the manifest with this digest.

    Returns:
        For each file of the artifact `path`, relative to the folder, `sha256` and `size` in bytes.

    Raises:
        Refused: DigestMismatch if it is missing or another one; UnsafeArtifact if it is too large,
            cannot be read, or names files outside the folder.
    """
    path = folder / MANIFEST
    if not path.is_file() or path.is_symlink():
        raise _digest_mismatch(f"{folder} has no {MANIFEST}; expected {digest}")
    if path.stat().st_size > MANIFEST_LIMIT:
        raise _unsafe(f"{path} is larger than {MANIFEST_LIMIT:,} bytes")
    content = path.read_bytes()
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != digest:
        raise _digest_mismatch(f"{folder} has digest {found}, expected {digest}")
    try:
        files: list[dict[str, Any]] = json.loads(content)["files"]
        names = [PurePosixPath(file["path"]) for file in files]
    except (ValueError, KeyError, TypeError) as wrong:
        raise _unsafe(f"{path} is not a valid manifest: {wrong!r}") from wrong
    if any(name.is_absolute() or ".." in name.parts for name in names):
        raise _unsafe(f"{path} names files outside its folder")
    return files


def _check(name: str, path: Path, known: dict[str, Any]) -> None:
    if path.suffix not in SAFE_SUFFIXES:
        raise _unsafe(
            f"{path} could run code when it is loaded; an artifact may only have files of type "
            f"{', '.join(sorted(SAFE_SUFFIXES))}"
        )
    size, found = path.stat().st_size, file_digest(path)
    if size != known.get("size") or found != known.get("sha256"):
        raise _digest_mismatch(
            f"{name} in {path.parent} does not match its manifest ({size} bytes, sha256 "
            f"{found[:12]}, not {known.get('size')} bytes, {str(known.get('sha256'))[:12]})"
        )


def _files(folder: Path) -> list[Path]:
    """List the files below a folder; refuse links and special files."""
    found = []
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            found.append(path)
        elif not stat.S_ISDIR(mode):
            raise _unsafe(f"{path} is a link or a special file")
    return found


def _digest_mismatch(what: str) -> Refused:
    return Refused("DigestMismatch", f"{what}; {_RESTORE}")


def _unsafe(what: str) -> Refused:
    return Refused("UnsafeArtifact", f"{what}; {_RESTORE}")
