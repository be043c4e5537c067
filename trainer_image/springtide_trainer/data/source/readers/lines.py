"""The lines of a file, with gzip if its name ends in .gz: one by one, or as blocks of bytes."""

from __future__ import annotations

import gzip
import zlib
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from springtide_trainer.data.source.readers.rows import SOURCE, bad_line
from springtide_trainer.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BufferedReader

    from springtide_trainer.data.source.files import DataFile

BLOCK = 1 << 22
"""Bytes of a block."""
MAX_LINE_BYTES = 2**20
"""Maximum bytes of one line."""
_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error)


class Lines:
    """An iterator of the lines of a file. Blocks of bytes can be taken out in between.

    Attributes:
        file: The file.
        number: Number of the last line that was taken.
        ended: The bytes that are held are the last of the file.
    """

    def __init__(
        self, file: DataFile, stream: BufferedReader | gzip.GzipFile, block: int = BLOCK
    ) -> None:
        self.file = file
        self.number = 0
        self.ended = False
        self._stream = stream
        self._block = block
        self._held, self._at = b"", 0
        self._failed: Exception | None = None

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        """Return the next line as text.

        Raises:
            Refused: the line is too long or not UTF-8, or the file is damaged.
        """
        line = self._line()
        if not line:
            raise StopIteration
        self.number += 1
        if len(line) > MAX_LINE_BYTES:
            hint = f"more than {MAX_LINE_BYTES:,} bytes in one row; is a line break missing?"
            raise bad_line("LineTooLong", self.file, self.number, hint)
        try:
            return line.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError as wrong:
            hint = f"byte {wrong.start + 1} is not valid UTF-8; write the file in UTF-8"
            raise bad_line("NotUtf8", self.file, self.number, hint) from wrong

    def hold(self) -> bytes:
        """Return the bytes of the next lines without taking them: a block, or all that is left.

        Where the file is damaged, they are the bytes before the damage.
        """
        pieces = [self._held[self._at :]]
        size = len(pieces[0])
        try:
            while size < self._block and not self.ended and self._failed is None:
                pieces.append(self._read())
                size += len(pieces[-1])
                self.ended = not pieces[-1]
        except _DAMAGED as failed:
            self._failed = failed
        self._held, self._at = b"".join(pieces), 0
        return self._held

    def take(self, size: int, lines: int) -> None:
        """Take the first bytes that are held, which are so many whole lines."""
        self._at += size
        self.number += lines

    def _read(self) -> bytes:
        """Read some bytes. Those before damage are returned before it is raised."""
        if isinstance(self._stream, gzip.GzipFile):
            return self._stream.read1()
        return self._stream.read(self._block)

    def _line(self) -> bytes:
        end = self._held.find(b"\n", self._at) + 1
        if end:
            line, self._at = self._held[self._at : end], end
            return line
        begun = self._held[self._at :]
        self._held, self._at = b"", 0
        try:
            if self._failed is not None:
                raise self._failed
            return begun + self._stream.readline(MAX_LINE_BYTES + 1)
        except EOFError as wrong:
            hint = "the gzip stream is truncated; deliver the whole file"
            raise bad_line("TruncatedFile", self.file, self.number + 1, hint) from wrong
        except (gzip.BadGzipFile, zlib.error) as wrong:
            raise self._not_gzip() from wrong

    def _not_gzip(self) -> Refused:
        hint = "the gzip stream is damaged; deliver the file again"
        if self.number:
            return bad_line("CorruptFile", self.file, self.number + 1, hint)
        hint = "named .gz but not a gzip stream; compress it, or remove .gz from its name"
        return Refused("CorruptFile", f"{self.file.name!r}: {hint}", SOURCE)


@contextmanager
def open_lines(file: DataFile, block: int = BLOCK) -> Iterator[Lines]:
    """Open a file to read its lines.

    Raises:
        Refused: it is named .gz and has 0 bytes, which Python reads as no lines.
    """
    if file.path.suffix == ".gz":
        if file.state().size == 0:
            hint = "named .gz but has 0 bytes, and gzip of nothing has some; deliver the whole file"
            raise Refused("TruncatedFile", f"{file.name!r}: {hint}", SOURCE)
        with file.open() as stream, gzip.GzipFile(fileobj=stream) as unzipped:
            yield Lines(file, unzipped, block)
    else:
        with file.open() as stream:
            yield Lines(file, stream, block)


def is_text(block: bytes) -> bool:
    """Return whether bytes are UTF-8 without a NUL."""
    if b"\0" in block:
        return False
    if block.isascii():
        return True
    with suppress(UnicodeDecodeError):
        block.decode()
        return True
    return False
