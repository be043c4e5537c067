"""Artifacts: folders of weights, tokenizer and preprocessing, named by the digest of a manifest.

Nothing here opens the weights. A folder is looked at file by file before anything may load it.
"""

from __future__ import annotations

import hashlib
import json
import stat
import uuid
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from springtide_api.contract import ArtifactMade
from springtide_trainer.errors import Refused
from springtide_trainer.storage import commit_folder, uri_of

if TYPE_CHECKING:
    from springtide_trainer.storage import Home

MANIFEST = "springtide-manifest.json"
MANIFEST_LIMIT = 1 << 20
"""Bytes of a manifest at most: some ten thousand files."""
SAFE_SUFFIXES = frozenset({".safetensors", ".json", ".txt", ".model"})
"""Weights, settings, vocabularies: nothing that runs when it is loaded."""
_RESTORE = "restore the folder from a copy"


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(folder: Path) -> str:
    """List every file of a folder in its manifest and return the digest, `sha256:<hex>`."""
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
) -> ArtifactMade:
    """Move a finished folder among the artifacts, under the digest of its content.

    Whoever commits the same content second finds it there; a damaged one is replaced by the whole.
    """
    digest = write_manifest(folder)
    size = sum(path.stat().st_size for path in _files(folder))
    final = home.artifact(digest)
    if not commit_folder(folder, final):
        try:
            verify(final, digest)
        except Refused:
            final.rename(folder.with_name(f"damaged-{uuid.uuid4()}"))
            commit_folder(folder, final)
            verify(final, digest)
    return ArtifactMade(uri=uri_of(final), digest=digest, bytes=size, head=head)


def verify(folder: Path, digest: str) -> None:
    """Check that a folder holds the files of the manifest with this digest, and nothing else.

    Raises:
        Refused: DigestMismatch where a byte differs, a file is missing or one is too many;
            UnsafeArtifact where a file could run code or lies outside the folder.
    """
    if not folder.is_dir() or folder.is_symlink():
        raise _broken(f"{folder} is no folder; expected the artifact {digest}")
    known = {str(file["path"]): file for file in _read_manifest(folder, digest)}
    present = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    present.pop(MANIFEST, None)
    if odd := sorted(set(known) ^ set(present)):
        raise _broken(
            f"{folder}: {len(odd)} files are in only one of folder and manifest {digest}, such as "
            f"{odd[0]!r}"
        )
    for name, path in sorted(present.items()):
        _check(name, path, known[name])


def _read_manifest(folder: Path, digest: str) -> list[dict[str, Any]]:
    path = folder / MANIFEST
    if not path.is_file() or path.is_symlink():
        raise _broken(f"{folder} has no {MANIFEST}; expected {digest}")
    if path.stat().st_size > MANIFEST_LIMIT:
        raise _unsafe(f"{path} is longer than {MANIFEST_LIMIT:,} bytes")
    content = path.read_bytes()
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != digest:
        raise _broken(f"{folder} has the digest {found}, expected {digest}")
    try:
        files: list[dict[str, Any]] = json.loads(content)["files"]
        names = [PurePosixPath(file["path"]) for file in files]
    except (ValueError, KeyError, TypeError) as wrong:
        raise _unsafe(f"{path} is no manifest: {wrong!r}") from wrong
    if any(name.is_absolute() or ".." in name.parts for name in names):
        raise _unsafe(f"{path} names files outside its folder")
    return files


def _check(name: str, path: Path, known: dict[str, Any]) -> None:
    if path.suffix not in SAFE_SUFFIXES:
        raise _unsafe(
            f"{path} may run code when it is loaded; an artifact holds only "
            f"{', '.join(sorted(SAFE_SUFFIXES))}"
        )
    size, found = path.stat().st_size, file_digest(path)
    if size != known.get("size") or found != known.get("sha256"):
        raise _broken(
            f"{name} in {path.parent} is not what its manifest says ({size} bytes, sha256 "
            f"{found[:12]}, not {known.get('size')} bytes, {str(known.get('sha256'))[:12]})"
        )


def _files(folder: Path) -> list[Path]:
    """List the files below a folder, refusing all that is neither file nor folder."""
    found = []
    for path in sorted(folder.rglob("*")):
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            found.append(path)
        elif not stat.S_ISDIR(mode):
            raise _unsafe(f"{path} is a link or no plain file")
    return found


def _broken(what: str) -> Refused:
    return Refused("DigestMismatch", f"{what}; {_RESTORE}")


def _unsafe(what: str) -> Refused:
    return Refused("UnsafeArtifact", f"{what}; {_RESTORE}")
