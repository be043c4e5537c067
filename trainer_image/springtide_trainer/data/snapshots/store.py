"""Frozen rows in the storage: put there by looks for data, removed when no generation names them.

Two spans of time keep apart what may go from what a generation is about to name, whatever crashes
in between: a look answers only rows that were frozen lately, and removes only old ones.
"""

from __future__ import annotations

import filecmp
import logging
import shutil
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING

from springtide_trainer.storage import commit_folder, sync

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from springtide_trainer.storage import Home

log = logging.getLogger(__name__)

ANSWERED = timedelta(days=3)
"""Rows that were frozen longer ago are not answered: whoever would name them might be too late."""
KEPT = timedelta(days=7)
"""Rows that nobody names stay so long."""


def commit(folder: Path, home: Home, digest: str) -> Path:
    """Move frozen rows into place and return where they lie, maybe frozen by another look lately.

    What lies there and is old or damaged stays as it is; the rows go beside it then.
    """
    for copy in count(1):
        final = home.data(digest, copy)
        if commit_folder(folder, final):
            log.info("frozen", extra={"rows": final.name})
            return final
        if age(final, folder) < ANSWERED and _same(folder, final):
            return final
    raise AssertionError  # pragma: no cover


def sweep(home: Home, named: Collection[str], tmp: Path) -> None:
    """Remove rows that no generation names and none will come to name, as far as it may.

    Args:
        home: The folder of the update.
        named: Names of the folders that generations name, all of them.
        tmp: A folder that this pod made just now: its time is the storage's present.
    """
    for folder in _folders(home):
        if folder.name in named or age(folder, tmp) < KEPT:
            continue
        try:
            folder.rename(tmp / folder.name)
            sync(folder.parent)
            shutil.rmtree(tmp / folder.name)
        except OSError as kept:
            log.warning("rows not removed", extra={"rows": folder.name, "error": str(kept)})
        else:
            log.info("rows that nobody names removed", extra={"rows": folder.name})


def age(folder: Path, fresh: Path) -> timedelta:
    """Return how much older a folder is than one that was written just now; gone is very old."""
    try:
        return timedelta(seconds=fresh.stat().st_mtime - folder.stat().st_mtime)
    except FileNotFoundError:
        return timedelta.max


def _folders(home: Home) -> Iterator[Path]:
    found = sorted((home.path / "data").glob("sha256-*"))
    return (folder for folder in found if folder.is_dir() and not folder.is_symlink())


def _same(mine: Path, theirs: Path) -> bool:
    """Tell whether two folders of rows are equal to the last byte."""
    names = [path.name for path in mine.iterdir()]
    return filecmp.cmpfiles(mine, theirs, names, shallow=False)[0] == names
