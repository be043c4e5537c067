"""SIGTERM: checked by the training loop between two steps, raised in every other stage."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

from springtide_trainer.errors import Interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INTERRUPTED = "interrupted"


@contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Raise `Interrupted` on SIGTERM. Without a handler, process 1 ignores the signal."""

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def stop_on_sigterm() -> Iterator[Callable[[int], str | None]]:
    """Yield a stop condition of the training loop: the step in progress is completed first."""
    received = False

    def note(number: int, frame: object) -> None:
        nonlocal received
        received = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda step: INTERRUPTED if received else None
    finally:
        signal.signal(signal.SIGTERM, before)
