"""Locks of folders between the processes of one node: `flock` on the folder itself.

The kernel releases them when a process ends, however it ends. There are no lock files that could be
left behind or deleted.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

POLL_SECONDS = 0.1
STALLED_SECONDS = 30.0
"""Without progress for so long, the holder is taken for stopped, or its storage for silent."""


class Stalled(Exception):
    """Another process holds the lock and does nothing."""


def open_folder(folder: Path) -> int:
    """Open a folder, not a link to one; return the handle, which the caller closes.

    Raises:
        OSError: there is none, or something else.
    """
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


def is_at(handle: int, folder: Path) -> bool:
    """Return whether an open folder is still the one at this path."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(handle), found)


def share(handle: int) -> bool:
    """Lock an open folder beside other holders, unless one has it alone; never waits."""
    return _try(handle, fcntl.LOCK_SH)


def seize(handle: int) -> bool:
    """Lock an open folder alone, unless another process has it; never waits."""
    return _try(handle, fcntl.LOCK_EX)


@contextmanager
def alone(folder: Path, progress: Callable[[], object]) -> Iterator[None]:
    """Hold a folder alone in the block; wait while its holder makes progress.

    Args:
        folder: An existing folder.
        progress: What changes while a holder works, such as the bytes that it has written.

    Raises:
        Stalled: `progress` returned the same for `STALLED_SECONDS`.
        OSError: the folder does not exist, or its file system has no such locks.
    """
    handle = open_folder(folder)
    try:
        last, since = progress(), time.monotonic()
        while not seize(handle):
            time.sleep(POLL_SECONDS)
            if (now := progress()) != last:
                last, since = now, time.monotonic()
            elif time.monotonic() - since > STALLED_SECONDS:
                raise Stalled(
                    f"{folder} is locked by another process, which wrote nothing for "
                    f"{STALLED_SECONDS:g} s"
                )
        yield
    finally:
        os.close(handle)


def _try(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
