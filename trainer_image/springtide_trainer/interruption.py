"""SIGTERM as a question that the training loop asks between two steps."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from springtide_trainer.training.loop import Stop

INTERRUPTED = "interrupted"


@contextmanager
def on_sigterm() -> Iterator[Stop]:
    """Yield a stop that answers once SIGTERM came; a step that has begun is finished."""
    came = False

    def note(number: int, frame: object) -> None:
        nonlocal came
        came = True

    before = signal.signal(signal.SIGTERM, note)
    try:
        yield lambda step: INTERRUPTED if came else None
    finally:
        signal.signal(signal.SIGTERM, before)
