"""The objects below a place as a tree of folders and files, which is read like one of paths."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from springtide_trainer.errors import Refused
from springtide_trainer.objects.store import Changed, Place, Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from springtide_trainer.objects.store import Entry

BLOCK = 4 << 20
"""Bytes that are read at once."""


@dataclass
class Node:
    """A folder, or a file if it has an entry.

    Attributes:
        store: The bucket.
        pure: Its key as a path.
        entry: The object; None for a folder.
        children: What a folder holds, by name.
    """

    store: Store
    pure: PurePosixPath
    entry: Entry | None = None
    children: dict[str, Node] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The last part of its key."""
        return self.pure.name

    @property
    def suffix(self) -> str:
        """The suffix of its name."""
        return self.pure.suffix

    def __str__(self) -> str:
        return str(Place(self.store.bucket, "/".join(self.pure.parts)))

    def __truediv__(self, name: str) -> Node:
        """Return what the folder holds under a name: if nothing, an empty folder."""
        return self.children.get(name) or Node(self.store, self.pure / name)

    def iterdir(self) -> Iterator[Node]:
        """Return what the folder holds."""
        return iter(self.children.values())

    def is_dir(self) -> bool:
        """Return whether it is a folder."""
        return self.entry is None

    def is_file(self) -> bool:
        """Return whether it is a file."""
        return self.entry is not None

    def open(self) -> io.BufferedReader:
        """Open the file. Reading it fails as soon as the object is replaced."""
        assert self.entry is not None
        return io.BufferedReader(_Object(self.store, self.entry), BLOCK)


def tree(place: Place) -> Node | None:
    """List the objects of a place; None if there are none.

    A file that is named like a folder is not in the tree. The marker of a folder is a folder.
    """
    store = Store(place.bucket)
    root = Node(store, PurePosixPath(place.key))
    for entry in store.list(place.key):
        folder = root
        *folders, name = PurePosixPath(entry.key).relative_to(place.key or ".").parts or (".",)
        if name == ".":  # the marker of the place itself
            continue
        for each in folders:
            found = folder.children.get(each)
            if found is None or found.entry is not None:
                found = folder.children[each] = Node(store, folder.pure / each)
            folder = found
        folder.children.setdefault(name, Node(store, folder.pure / name, entry))
    _find_markers(root)
    if root.children:
        return root
    try:
        return Node(store, root.pure, store.head(place.key)) if place.key else None
    except FileNotFoundError:
        return None


def _find_markers(folder: Node) -> None:
    """Turn markers of empty folders into folders. Files that are never data are not asked for."""
    for child in folder.children.values():
        if child.entry is None:
            _find_markers(child)
        elif not child.name.startswith(("_", ".")) and child.store.is_folder(child.entry):
            child.entry = None


class _Object(io.RawIOBase):
    """An object as a file that is read in ranges."""

    def __init__(self, store: Store, entry: Entry) -> None:
        super().__init__()
        self._store = store
        self._entry = entry
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._entry.size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        end = min(self._at + len(buffer), self._entry.size)
        if self._at >= end:
            return 0
        try:
            found = self._store.read_range(self._entry.key, self._at, end, self._entry.etag or None)
        except (Changed, FileNotFoundError) as changed:
            raise Refused(
                "DataChanged",
                f"{self._store.bucket}/{self._entry.key} changed while it was read; write files "
                "under another name and copy them when they are complete",
                "data.source.uri",
            ) from changed
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)
