"""A folder for the copy of a model while it is loaded.

A process that is killed leaves its folder, and the `emptyDir` of a pod outlives the container. So
each process removes those that no other one holds, by a lock of the folder (`locks`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from springtide_server.loading import locks

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "springtide-model-"


@contextmanager
def scratch() -> Iterator[Path]:
    """Make an empty folder, which is deleted at the end of the block."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # of another user, or deleted meanwhile
            _remove_unheld(left)
    with tempfile.TemporaryDirectory(prefix=PREFIX) as made:
        handle = locks.open_folder(Path(made))
        try:
            with suppress(OSError):  # a file system without such locks
                locks.share(handle)
            yield Path(made)
        finally:
            os.close(handle)


def _remove_unheld(folder: Path) -> None:
    """Remove a folder that no process holds; one without files may be about to be held."""
    handle = locks.open_folder(folder)
    try:
        if any(folder.iterdir()) and locks.seize(handle):
            shutil.rmtree(folder)
    finally:
        os.close(handle)
