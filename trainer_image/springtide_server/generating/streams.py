"""Streams of generated text: each has a thread of its own, beside the one that scores batches."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING, Protocol

from springtide_server.batching import QueueFull
from springtide_trainer.panics import panics_as_errors

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from springtide_server.model import Row

MOST = 4
"""Streams at a time; each further one is refused, so that those which run keep their pace."""


class Generate(Protocol):
    """Generates the response to a row; a blocking function."""

    def __call__(self, row: Row, observe: Callable[[str], bool], /) -> str:
        """Return the response.

        Args:
            row: The prompt.
            observe: Called with the text so far after each token; returns whether to go on.
        """


class Streams:
    """Opens streams of responses.

    Args:
        generate: Generates a response.
        most: Streams at a time.
    """

    def __init__(self, generate: Generate, most: int = MOST) -> None:
        self._generate = generate
        self._most = most
        self._open = 0
        self._workers = ThreadPoolExecutor(most, thread_name_prefix="generating")

    def open(self, row: Row) -> AsyncGenerator[str]:
        """Return the parts of the response to a prompt, as they are generated from now on.

        Closing the iterator ends the generation after the token that is being computed.

        Raises:
            QueueFull: too many streams are open.
        """
        if self._open >= self._most:
            raise QueueFull(f"{self._open} of at most {self._most} streams are open; retry later")
        loop = asyncio.get_running_loop()
        parts: asyncio.Queue[str | None] = asyncio.Queue()
        closed = Event()

        def generate() -> None:
            sent = ""

            def send(text: str) -> bool:
                nonlocal sent
                if len(text) > len(sent) and text.startswith(sent):
                    loop.call_soon_threadsafe(parts.put_nowait, text[len(sent) :])
                    sent = text
                return not closed.is_set()

            with panics_as_errors():
                send(self._generate(row, send))

        self._open += 1
        work = loop.run_in_executor(self._workers, generate)
        work.add_done_callback(lambda _: self._ended(parts))
        return _parts(parts, work, closed)

    def _ended(self, parts: asyncio.Queue[str | None]) -> None:
        self._open -= 1
        parts.put_nowait(None)


async def _parts(
    parts: asyncio.Queue[str | None], work: asyncio.Future[None], closed: Event
) -> AsyncGenerator[str]:
    try:
        while (part := await parts.get()) is not None:
            yield part
        await work
    finally:
        closed.set()
