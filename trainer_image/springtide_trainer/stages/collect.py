"""Deletes folders that are no longer needed: those that the run file lists, and unreferenced ones.

The name of an unreferenced folder is a digest that nothing names; other folders are left alone.
"""

from __future__ import annotations

import logging
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from springtide_trainer.errors import Refused
from springtide_trainer.storage import (
    LOCAL_RUNS,
    folder_name,
    forget,
    local_place,
    remote_of,
    remove_file,
    sync,
    warm_up_file,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from springtide_api.contract import RunFile, Unreferenced
    from springtide_trainer.remote import Remote
    from springtide_trainer.storage import Home

log = logging.getLogger(__name__)

COLLECTABLE = ("artifacts", "buffers", "data", "checkpoints", "reports")
_SEARCHED = ("artifacts", "buffers")
_DIGEST = re.compile(r"sha256-[0-9a-f]{64}")


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
        _delete_queries(folder)
        forget(folder)
        if folder.exists():
            shutil.rmtree(scratch / str(index), ignore_errors=True)
            folder.rename(scratch / str(index))
            sync(folder.parent)
            log.info("deleted", extra={"folder": str(folder.relative_to(home.path))})
    if run.collect and run.collect.unreferenced and (remote := remote_of(home.path)):
        _collect_objects(run.collect.unreferenced, home, remote)
    elif run.collect and run.collect.unreferenced:
        for folder in _unreferenced(run.collect.unreferenced, home):
            _delete_unused(folder, scratch / f"{folder.parent.name}-{folder.name}", home)
    shutil.rmtree(scratch)


def _unreferenced(asked: Unreferenced, home: Home) -> Iterator[Path]:
    """Yield the folders of weights, adapters and buffers that nothing names.

    None in a storage where `springtide-trainer run` has generations of its own.
    """
    kept = {folder_name(digest) for digest in asked.kept}
    if (home.path / LOCAL_RUNS).exists():
        return
    for place in _SEARCHED:
        room = home.path / place
        if room.is_symlink() or not room.is_dir():
            continue
        for folder in sorted(room.iterdir()):
            if folder.name in kept or not _DIGEST.fullmatch(folder.name):
                continue
            written = datetime.fromtimestamp(folder.lstat().st_mtime, UTC)
            if folder.is_symlink() or not folder.is_dir():
                continue
            if asked.since < written < asked.until:
                yield folder


def _collect_objects(asked: Unreferenced, home: Home, remote: Remote) -> None:
    """Delete the folders that nothing names from an object store.

    A training that commits the same content at this moment finds that it is gone, and repeats it.
    """
    kept = {folder_name(digest) for digest in asked.kept}
    for place in _SEARCHED:
        for folder, written in remote.folders(home.path / place).items():
            unnamed = folder.name not in kept and _DIGEST.fullmatch(folder.name)
            if unnamed and asked.since < written < asked.until:
                _delete_queries(folder)
                remote.forget(folder)
                log.info("deleted: nothing names it", extra={"folder": f"{place}/{folder.name}"})


def _delete_unused(folder: Path, aside: Path, home: Home) -> None:
    """Delete a folder, unless a training commits the same content at this moment."""
    shutil.rmtree(aside, ignore_errors=True)
    before = folder.lstat().st_mtime_ns
    _delete_queries(folder)
    folder.rename(aside)
    if aside.lstat().st_mtime_ns != before and not folder.exists():
        aside.rename(folder)
        return
    sync(folder.parent)
    log.info("deleted: nothing names it", extra={"folder": str(folder.relative_to(home.path))})


def _delete_queries(folder: Path) -> None:
    """Delete the warm-up queries of a model, which are rows of data, before the model."""
    if folder.parent.name == "artifacts":
        remove_file(warm_up_file(folder))


def _checked(text: str, home: Home) -> Path:
    """Return the folder of a path or URI, if it may be deleted."""
    path = local_place(text) if ":/" in text else Path(text)
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
