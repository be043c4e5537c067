"""Checks the folder of a generation against its digest, with the standard library alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

MANIFEST = "springtide-manifest.json"


class Refused(Exception):
    """The model must not be served; the message says why."""


def verified(uri: str, digest: str) -> Path:
    """Return the folder of a model that is byte for byte the one with this digest.

    Args:
        uri: MODEL_URI, `file:///...`.
        digest: MODEL_DIGEST, `sha256:` and the SHA-256 of the folder's manifest.

    Raises:
        Refused: the manifest has another digest, or the folder has other files than the manifest.
        OSError: a file cannot be read.
    """
    folder = _path(uri)
    content = (folder / MANIFEST).read_bytes()
    found = f"sha256:{hashlib.sha256(content).hexdigest()}"
    if found != digest:
        raise Refused(f"{folder} has digest {found}, MODEL_DIGEST is {digest or 'not set'}")
    listed = {file["path"]: file["sha256"] for file in json.loads(content)["files"]}
    present = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    }
    if odd := (present - {MANIFEST}) ^ listed.keys():
        raise Refused(f"{min(odd)} is only in {folder} or only in its manifest")
    for name, expected in listed.items():
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                raise Refused(f"{name} in {folder} does not match its manifest")
    return folder


def _path(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme != "file" or parts.netloc:
        raise Refused(f"MODEL_URI is {uri}; this server reads file:/// alone")
    return Path(unquote(parts.path))
