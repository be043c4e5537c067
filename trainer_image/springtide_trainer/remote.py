"""What `storage` asks of a storage in an object store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime
    from pathlib import Path


class Remote(Protocol):
    """A storage in an object store (`objects.mirror.Mirror`): each path here is that of a copy."""

    def keeps(self, path: Path) -> bool:
        """Return whether a path stands for a folder or file of the store."""

    def uri(self, path: Path) -> str | None:
        """Return the URI of a path; None if it is not in the store."""

    def local(self, uri: str, field: str = ...) -> Path:
        """Return where the copy of a URI is, or would be."""

    def fetch(self, uri: str, field: str = ..., only: Collection[str] = ...) -> Path:
        """Return the copy of a folder, or of some files of it, after it was downloaded."""

    def read(self, final: Path) -> bytes:
        """Return the content of a committed file."""

    def commit_folder(self, tmp: Path, final: Path) -> bool:
        """Do what `commit_folder` does."""

    def commit_content(self, tmp: Path, final: Path, known: Mapping[str, str]) -> bool:
        """Do what `commit_content` does."""

    def commit_file(self, tmp: Path, final: Path) -> bool:
        """Do what `commit_file` does."""

    def replace_file(self, tmp: Path, final: Path) -> None:
        """Write a file, or replace it."""

    def remove_file(self, final: Path) -> None:
        """Delete a file, if it is there."""

    def files(self, room: Path) -> list[Path]:
        """Return the files in a folder that is not committed as a whole."""

    def folders(self, room: Path) -> dict[Path, datetime]:
        """Return the folders and files in a folder, and the time of the newest file of each."""

    def committed(self, room: Path) -> list[Path]:
        """Return the committed folders in a folder."""

    def forget(self, folder: Path) -> None:
        """Delete a folder."""

    def sweep(self, attempts: str, spare: float) -> None:
        """Delete what killed attempts left."""

    def check(self) -> None:
        """Check that the store can keep commits."""
