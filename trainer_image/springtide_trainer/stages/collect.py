"""Deletes folders that are no longer needed: exactly those that the run file lists."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from springtide_trainer.errors import Refused
from springtide_trainer.storage import local_path, sync

if TYPE_CHECKING:
    from springtide_api.contract import RunFile
    from springtide_trainer.storage import Home

log = logging.getLogger(__name__)

COLLECTABLE = ("artifacts", "buffers", "data", "checkpoints", "reports")


def collect(run: RunFile, home: Home) -> None:
    """Delete the folders that the run file lists, or none if one of them is not allowed.

    Each folder is renamed first, so no partly deleted folder is at a final path.

    Raises:
        Refused: a path is outside the update's folders, has a link, or is not a folder.
    """
    paths = run.collect.delete if run.collect else []
    folders = [_checked(path, home) for path in paths]
    scratch = home.path / "tmp" / f"{run.job}-collected"
    scratch.mkdir(parents=True, exist_ok=True)
    for index, folder in enumerate(folders):
        if folder.exists():
            shutil.rmtree(scratch / str(index), ignore_errors=True)
            folder.rename(scratch / str(index))
            sync(folder.parent)
            log.info("deleted", extra={"folder": str(folder.relative_to(home.path))})
    shutil.rmtree(scratch)


def _checked(text: str, home: Home) -> Path:
    """Return the folder of a path or file:/// URI, if it may be deleted."""
    path = local_path(text) if text.startswith("file:") else Path(text)
    parts = path.relative_to(home.path).parts if path.is_relative_to(home.path) else ()
    if len(parts) < 2 or parts[0] not in COLLECTABLE or ".." in path.parts:
        allowed = ", ".join(COLLECTABLE)
        message = f"{text!r} is not in one of the folders {allowed} of {home.path}"
        raise Refused("UnsafePath", f"{message}; nothing was deleted")
    for depth in range(1, len(parts) + 1):
        if home.path.joinpath(*parts[:depth]).is_symlink():
            raise Refused("UnsafePath", f"{text!r} has a link in its path; nothing was deleted")
    if path.exists() and not path.is_dir():
        raise Refused("UnsafePath", f"{text!r} is not a folder; nothing was deleted")
    return path
