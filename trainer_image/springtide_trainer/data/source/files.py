"""Lists the files of the source and the partition of each.

A source is a file or folder that is partitioned by timestamps, or a tree with partitions in its
paths; on a disk, or in an object store. Names that start with "_" or "." are ignored. A link to
outside the source is refused.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from springtide_trainer.data.partitions import LAST_YEAR, Span, micros, moment, span_at
from springtide_trainer.errors import Refused
from springtide_trainer.objects.store import is_object_uri, place_of
from springtide_trainer.objects.tree import tree
from springtide_trainer.storage import local_path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader

    from springtide_api.update.data import Data, Partition
    from springtide_trainer.objects.tree import Node

URI = "data.source.uri"
PATH = "data.source.partition.path"
MARKER = "_SUCCESS"
_MAX_DEPTH = 16
_NO_SPAN = Span(0, 0, "")
_DIRECTIVES = {"Y": 4, "m": 2, "d": 2, "H": 2, "j": 3, "G": 4, "V": 2}
_FINE_ENOUGH = {"Month": "mdj", "Week": "Vdj", "Day": "dj", "Hour": "H"}


@dataclass(frozen=True)
class DataFile:
    """One file of the source."""

    path: Path | Node
    name: str
    """Its path below the source, for messages."""

    def state(self) -> FileState:
        """Return what changes when the file does."""
        if isinstance(self.path, Path):
            with self._there():
                found = self.path.stat()
            times = found.st_mtime_ns, found.st_ctime_ns
            return FileState(found.st_size, [str(self.path), found.st_size, *times], max(times))
        entry = self.path.entry
        assert entry is not None
        changed = micros(entry.modified) * 1_000
        version = entry.etag or changed
        return FileState(entry.size, [str(self.path), entry.size, version], changed)

    def open(self) -> BufferedReader:
        """Open it for reading."""
        with self._there():
            return self.path.open("rb") if isinstance(self.path, Path) else self.path.open()

    @contextmanager
    def _there(self) -> Iterator[None]:
        """Say that the file was removed after it was listed, if it is not there in this block."""
        try:
            yield
        except FileNotFoundError as gone:
            what = (
                f"{self.name!r} was removed while the source was read; keep the files of a "
                "partition until it was trained on"
            )
            raise Refused("DataChanged", what, URI) from gone


@dataclass(frozen=True)
class FileState:
    """What is known of a file without reading it.

    Attributes:
        size: Its bytes.
        identity: Equal to that of another time if the file has not changed in between.
        changed: When it changed, nanoseconds since 1970.
    """

    size: int
    identity: list[str | int]
    changed: int


@dataclass(frozen=True)
class FileSet:
    """Files that are read together: those of one partition, or all."""

    files: tuple[DataFile, ...]
    span: Span | None = None
    """The partition of the files; None if timestamps decide."""
    marked: bool = True
    """The _SUCCESS file exists, or the source has no markers."""


def file_sets(data: Data) -> list[FileSet]:
    """List the files of the source, by partition if their paths name one, oldest first.

    Raises:
        Refused: the source does not exist, a path is not one of a partition, or a link leaves it.
    """
    root = _root(data)
    partition = data.source.partition
    if partition.path is not None:
        if not root.is_dir():
            raise Refused("NotAFolder", f"{root} is not a folder, but {PATH} is set", URI)
        return sorted(_partitions(root, partition), key=lambda file_set: file_set.span or _NO_SPAN)
    if root.is_dir():
        return [FileSet(tuple(_files(root, root)))]
    return [FileSet((DataFile(root, root.name),))]


def _root(data: Data) -> Path | Node:
    """Return the source's folder or file, and check that it is inside its volume."""
    if is_object_uri(data.source.uri):
        place = place_of(data.source.uri, URI)
        if (found := tree(place)) is None:
            raise _not_found(place.uri)
        return found
    root = local_path(data.source.uri, URI)
    if not root.exists():
        raise _not_found(str(root))
    if data.volume is not None:
        mount = local_path("file://" + data.volume.mount_path, "data.volume.mountPath")
        _inside(root, mount)
    elif not root.is_dir():
        _inside(root, root.parent)
    return root


def _not_found(where: str) -> Refused:
    return Refused("DataNotFound", f"{where} does not exist; deliver the data or change {URI}", URI)


def _inside(path: Path | Node, root: Path | Node) -> None:
    """Refuse a link to outside the source, or to nothing. An object store has no links."""
    if not isinstance(path, Path) or not isinstance(root, Path):
        return
    if path.is_symlink() and not path.exists():
        raise Refused(
            "DataNotFound",
            f"{str(path)!r} is a link to what does not exist; deliver that, or remove the link",
            URI,
        )
    if not path.resolve().is_relative_to(root.resolve()):
        raise Refused(
            "UnsafePath",
            f"{str(path)!r} is a link to outside {root}; replace it by a copy of the file",
            URI,
        )


def _sorted(folder: Path | Node) -> list[Path | Node]:
    return sorted(folder.iterdir(), key=lambda path: path.name)


def _below(path: Path | Node, root: Path | Node) -> str:
    return str(path)[len(str(root)) :].lstrip("/")


def _files(folder: Path | Node, root: Path | Node, depth: int = 0) -> Iterator[DataFile]:
    if depth > _MAX_DEPTH:
        message = f"{str(folder)!r} is more than {_MAX_DEPTH} folders deep; use fewer levels"
        raise Refused("UnsafePath", message, URI)
    for path in _sorted(folder):
        if path.name.startswith(("_", ".")):
            continue
        _inside(path, root)
        if path.is_dir():
            yield from _files(path, root, depth + 1)
        elif path.is_file():
            yield DataFile(path, _below(path, root))


def _partitions(root: Path | Node, partition: Partition) -> Iterator[FileSet]:
    pattern = partition.path or ""
    _check_pattern(pattern, partition)
    segments = [segment for segment in pattern.split("/") if segment]
    for path, folder, fields in _matching(root, segments, {}):
        _inside(path, root)
        name = _below(path, root)
        span = span_at(_start(fields, name), partition.period)
        if moment(span.start) != _start(fields, name):
            raise Refused(
                "WrongPartition",
                f"{name!r} is not the start of a period {partition.period}; change "
                "data.source.partition.period or path",
                PATH,
            )
        marker = (path if path.is_dir() else folder) / MARKER
        # Twice: a writer that ends or begins again while files are listed would leave some out.
        marked = not partition.success_marker or marker.is_file()
        files = tuple(_files(path, root)) if path.is_dir() else (DataFile(path, name),)
        marked = marked and (not partition.success_marker or marker.is_file())
        yield FileSet(files, span, marked)


def _check_pattern(pattern: str, partition: Partition) -> None:
    found = re.findall(r"%(.?)", pattern.replace("%%", ""))
    if unknown := [directive for directive in found if directive not in _DIRECTIVES]:
        known = " ".join("%" + directive for directive in _DIRECTIVES)
        raise Refused("InvalidPattern", f"%{unknown[0]} is not one of {known}", PATH)
    if not set(found) & set(_FINE_ENOUGH[partition.period]) or not set(found) & {"Y", "G"}:
        raise Refused(
            "InvalidPattern", f"{pattern!r} does not identify one {partition.period}", PATH
        )
    if partition.success_marker and "%" not in pattern:
        message = f"{pattern!r} has no directive such as %Y, so no partition has a folder"
        raise Refused("InvalidPattern", message, PATH)


def _matching(
    folder: Path | Node, segments: list[str], fields: dict[str, int]
) -> Iterator[tuple[Path | Node, Path | Node, dict[str, int]]]:
    """Match paths against the pattern's segments; other paths are not part of the source."""
    expression, names = _expression(segments[0])
    for path in _sorted(folder):
        match = re.fullmatch(expression, path.name, re.ASCII)
        if match is None:
            _check_zeros(path, segments[0], expression)
            continue
        found = dict(zip(names, map(int, match.groups()), strict=True))
        if any(fields.get(name, value) != value for name, value in found.items()):
            continue
        if len(segments) == 1:
            yield path, folder, fields | found
        elif path.is_dir():
            yield from _matching(path, segments[1:], fields | found)


def _check_zeros(path: Path | Node, segment: str, expression: str) -> None:
    """Refuse a partition whose numbers have no leading zeros, as Spark writes columns of numbers.

    It would be ignored, and its rows passed. Where numbers are not separated, they could be others.
    """
    shorter = re.sub(r"\\d\{([23])\}", r"\\d{1,\1}", expression)
    separated = not re.search(r"%[^%]%", segment)
    if separated and re.fullmatch(shorter, path.name, re.ASCII):
        raise Refused(
            "WrongPartition",
            f"{str(path)!r} has a number without leading zeros; name it as {PATH} does, with zeros "
            f"({segment!r}, such as 03)",
            PATH,
        )


def _expression(segment: str) -> tuple[str, list[str]]:
    """Convert a segment of a strftime pattern to a regular expression and its directives."""
    expression, names = "", []
    for segment_part in re.split(r"(%.)", segment):
        if segment_part == "%%":
            expression += "%"
        elif segment_part.startswith("%"):
            names.append(segment_part[1])
            expression += rf"(\d{{{_DIRECTIVES[segment_part[1]]}}})"
        else:
            expression += re.escape(segment_part)
    return expression, names


def _start(fields: dict[str, int], name: str) -> datetime:
    """Return the time in UTC that the fields of a path give."""
    try:
        if "V" in fields:
            day = datetime.fromisocalendar(fields.get("G", fields.get("Y", 0)), fields["V"], 1)
        elif "j" in fields:
            text = f"{fields['Y']:04}-{fields['j']:03}"
            day = datetime.strptime(text, "%Y-%j").replace(tzinfo=UTC)
        else:
            day = datetime(fields["Y"], fields.get("m", 1), fields.get("d", 1), tzinfo=UTC)
        if day.year > LAST_YEAR:
            raise ValueError(f"the year must be at most {LAST_YEAR}")
        return day.replace(hour=fields.get("H", 0), tzinfo=UTC)
    except (ValueError, KeyError) as wrong:
        raise Refused("WrongPartition", f"{name!r} is not a valid date ({wrong})", PATH) from wrong
