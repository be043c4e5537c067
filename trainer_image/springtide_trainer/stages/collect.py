"""Deletes what is no longer needed, and nothing else: folders are named, never searched for."""

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

COLLECTED = ("artifacts", "data", "checkpoints", "reports")


def collect(run: RunFile, home: Home) -> None:
    """Delete the folders that the run file names, or none if one of them may not go.

    Each is moved aside in one step first: a half-deleted folder is never at its place.

    Raises:
        Refused: a path lies elsewhere, leads through a link, or is no folder.
    """
    asked = run.collect.delete if run.collect else []
    folders = [_checked(path, home) for path in asked]
    grave = home.path / "tmp" / f"{run.job}-collected"
    grave.mkdir(parents=True, exist_ok=True)
    for at, folder in enumerate(folders):
        if folder.exists():
            shutil.rmtree(grave / str(at), ignore_errors=True)
            folder.rename(grave / str(at))
            sync(folder.parent)
            log.info("deleted", extra={"folder": str(folder.relative_to(home.path))})
    shutil.rmtree(grave)


def _checked(text: str, home: Home) -> Path:
    """Return the folder of a path or file:/// URI if it may go."""
    path = local_path(text) if text.startswith("file:") else Path(text)
    parts = path.relative_to(home.path).parts if path.is_relative_to(home.path) else ()
    if len(parts) < 2 or parts[0] not in COLLECTED or ".." in path.parts:
        places = ", ".join(COLLECTED)
        raise Refused("UnsafePath", f"{text!r} lies in none of the folders {places} of {home.path}")
    for depth in range(1, len(parts) + 1):
        if home.path.joinpath(*parts[:depth]).is_symlink():
            raise Refused("UnsafePath", f"{text!r} leads through a link; nothing was deleted")
    if path.exists() and not path.is_dir():
        raise Refused("UnsafePath", f"{text!r} is no folder; nothing was deleted")
    return path
