"""Stores frozen rows: probes write them, and remove those that no generation refers to.

A probe only reuses recent rows and only removes old ones, so rows that a generation is about to
refer to are never removed, whatever crashes in between.
"""

from __future__ import annotations

import filecmp
import logging
import shutil
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

from springtide_api.contract import ExitCode
from springtide_trainer.errors import Refused
from springtide_trainer.storage import (
    commit_folder,
    local_path,
    remote_of,
    sync,
    uri_of,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from springtide_trainer.remote import Remote
    from springtide_trainer.storage import Home

log = logging.getLogger(__name__)

REUSE_PERIOD = timedelta(days=3)
"""A probe reuses rows only if they were frozen within this time."""
RETENTION = timedelta(days=7)
"""Rows that no generation refers to are kept this long."""


def commit(folder: Path, home: Home, digest: str) -> Path:
    """Move frozen rows to the storage and return their folder; reuse recent equal rows.

    Existing rows that are old or damaged are not changed; the new rows are stored as another copy.
    """
    for copy in count(1):
        final = home.data(digest, copy)
        try:
            if commit_folder(folder, final):
                log.info("frozen", extra={"rows": final.name})
                return final
            final = local_path(uri_of(final))
        except Refused as damaged:  # of an object store, where copies are verified
            if damaged.code == ExitCode.ENVIRONMENT:
                raise
            log.warning("damaged rows are frozen again", extra={"error": str(damaged)})
            continue
        if age(final, folder) < REUSE_PERIOD and _same(folder, final):
            return final
    raise AssertionError  # pragma: no cover


def sweep(home: Home, referenced: Collection[str], tmp: Path) -> None:
    """Remove old rows that no generation refers to, as far as permissions allow.

    Args:
        home: The folder of the update.
        referenced: Names of all folders that generations refer to.
        tmp: A folder that this pod has just created: its time is the storage's current time.
    """
    if remote := remote_of(home.path):
        _sweep_objects(remote, home, referenced)
        return
    for folder in _folders(home):
        if folder.name in referenced or age(folder, tmp) < RETENTION:
            continue
        try:
            folder.rename(tmp / folder.name)
            sync(folder.parent)
            shutil.rmtree(tmp / folder.name)
        except OSError as kept:
            log.warning("rows not removed", extra={"rows": folder.name, "error": str(kept)})
        else:
            log.info("unreferenced rows removed", extra={"rows": folder.name})


def _sweep_objects(remote: Remote, home: Home, referenced: Collection[str]) -> None:
    """Remove old rows from an object store. Its clock and this pod's may differ by minutes."""
    for folder, written in remote.folders(home.path / "data").items():
        if folder.name not in referenced and datetime.now(UTC) - written >= RETENTION:
            remote.forget(folder)
            log.info("unreferenced rows removed", extra={"rows": folder.name})


def age(folder: Path, new: Path) -> timedelta:
    """Return how much older a folder is than a new one; `timedelta.max` if it does not exist."""
    try:
        return timedelta(seconds=new.stat().st_mtime - folder.stat().st_mtime)
    except FileNotFoundError:
        return timedelta.max


def _folders(home: Home) -> Iterator[Path]:
    found = sorted((home.path / "data").glob("sha256-*"))
    return (folder for folder in found if folder.is_dir() and not folder.is_symlink())


def _same(mine: Path, theirs: Path) -> bool:
    """Return whether two folders of rows are byte-equal."""
    names = [path.name for path in mine.iterdir()]
    return filecmp.cmpfiles(mine, theirs, names, shallow=False)[0] == names
