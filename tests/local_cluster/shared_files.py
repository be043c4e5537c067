"""Stores equal large files of the cache folder once, as hard links to one file.

The virtual environment, the trainer's image in the build store and the same image on a node hold
the same libraries of PyTorch and CUDA, 5.6 GB each. Nothing writes to them in place: pip and uv
replace files, and a container writes to a layer of its own.
"""

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

LARGE = 256 * 1024
"""One file in a hundred is this large; together they are nine tenths of the bytes."""
CHUNK = 128 * 1024

_Kind = tuple[str, int, int, int, int, int]


def share(kept: Iterable[Path], copies: Iterable[Path], *, scratch: Path) -> None:
    """Replace large files below `copies` by links to equal files below `kept`.

    Equal means name, owner, mode, extended attributes and content, not the time of the last
    change: only Python reads that, of a source file to see whether its bytecode is outdated, and
    source files are left as they are.

    Args:
        kept: folders whose files stay.
        copies: folders whose files may be replaced; nothing may write to them.
        scratch: a folder of the same file system, where a link is before it replaces a file.
    """
    originals: dict[_Kind, list[Path]] = {}
    for folder in kept:
        for kind, path in _large(folder):
            originals.setdefault(kind, []).append(path)
    for folder in copies if originals else ():
        for kind, path in _large(folder):
            _replace(path, originals.get(kind, []), scratch)


def _large(folder: Path) -> Iterator[tuple[_Kind, Path]]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)  # noqa: PTH118 - of 40,000 files few become a Path
            try:
                found = os.lstat(path)
            except FileNotFoundError:  # an update of the virtual environment removes it right now
                continue
            large = stat.S_ISREG(found.st_mode) and found.st_size >= LARGE
            if large and not name.endswith(".py"):
                owner = (found.st_uid, found.st_gid)
                yield (name, found.st_size, found.st_dev, found.st_mode, *owner), Path(path)


def _replace(copy: Path, originals: list[Path], scratch: Path) -> None:
    # A file that was removed meanwhile, or a file system without links, leaves the copy as it is.
    try:
        if any(copy.samefile(original) for original in originals):
            return
        equal = next((original for original in originals if _equal(original, copy)), None)
        if equal is not None:
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                link = Path(folder, copy.name)
                link.hardlink_to(equal)
                link.replace(copy)
    except OSError:
        return


def _equal(one: Path, other: Path) -> bool:
    if _attributes(one) != _attributes(other):
        return False
    with one.open("rb", buffering=0) as first, other.open("rb", buffering=0) as second:
        while chunk := first.read(CHUNK):
            if chunk != second.read(CHUNK):
                return False
    return True


def _attributes(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}
