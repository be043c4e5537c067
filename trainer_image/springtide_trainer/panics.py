"""Panics of libraries in Rust, such as that of a tokenizer on a rare text, become errors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_PANIC = "PanicException"
"""The type of each library that is made with PyO3; it cannot be imported."""


class Panicked(Exception):
    """A library panicked. Its own exception is no `Exception`: it would end the process."""


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raise `Panicked` for a panic in the block."""
    try:
        yield
    except BaseException as failed:
        if type(failed).__name__ != _PANIC:
            raise
        raise Panicked("a library panicked; its message is on standard error") from failed
