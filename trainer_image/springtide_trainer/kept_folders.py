"""Folders of the storage that a later pod uses again: tokens, and scores of an evaluation.

Each has a sidecar with all that its files depend on and the digest of each: it is complete and of
the right rows, or made again.
"""

from __future__ import annotations

import json
import logging
import uuid
from typing import TYPE_CHECKING, Any, TypeVar

from springtide_api.contract import ExitCode
from springtide_trainer.errors import Refused
from springtide_trainer.storage import file_digest, forget, local_path, uri_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

log = logging.getLogger(__name__)

T = TypeVar("T")


def seal(folder: Path, sidecar: str, key: Mapping[str, Any]) -> None:
    """Write the sidecar of a folder that has all its files."""
    files = {path.name: file_digest(path) for path in sorted(folder.iterdir())}
    text = json.dumps({"key": key, "files": files}, sort_keys=True)
    (folder / sidecar).write_text(text + "\n", encoding="utf-8")


def verified(folder: Path, sidecar: str, key: Mapping[str, Any]) -> list[str]:
    """Return the names of the files of a folder, all of which are as they were written.

    Raises:
        OSError, ValueError, KeyError, TypeError, AttributeError: the folder is damaged.
    """
    found: dict[str, Any] = json.loads((folder / sidecar).read_bytes())
    if found["key"] != json.loads(json.dumps(key)):
        raise ValueError(f"{folder.name} was made of something else")
    for name, digest in found["files"].items():
        if file_digest(folder / name) != digest:
            raise ValueError(f"{folder.name}/{name} does not match its digest")
    return list(found["files"])


def read(final: Path, scratch: Path, read_files: Callable[[Path], T], *, what: str) -> T | None:
    """Read a folder of the storage; None: there is none, or it was damaged and is removed.

    Args:
        final: The folder.
        scratch: A folder of this pod on the same file system.
        read_files: Verifies a folder and reads it; raises as `verified` does.
        what: What is in it, for the log.

    Raises:
        Refused: the object store cannot be read.
        OSError: a damaged folder cannot be removed.
    """
    try:
        folder = local_path(uri_of(final))
        return read_files(folder) if folder.is_dir() else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, Refused) as damaged:
        if isinstance(damaged, Refused) and damaged.code == ExitCode.ENVIRONMENT:
            raise
        log.warning("damaged %s made again", what, extra={"error": str(damaged)})
    _set_aside(final, scratch)
    return None


def _set_aside(folder: Path, scratch: Path) -> None:
    """Move a folder to the pod's scratch folder, so that no reader sees a part of it."""
    forget(folder)
    try:
        folder.rename(scratch / f"damaged-{uuid.uuid4()}")
    except FileNotFoundError:
        return
