"""Dynamic batching: rows of many requests are scored together, in one worker thread.

A batch is closed when it is full or when its oldest row has waited long enough; while the worker
is busy, the next batch fills by itself. Whoever goes away takes his waiting rows along.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from springtide_trainer.artifact.preprocess import Pair

    Score = Callable[[Sequence[Pair]], np.ndarray]


class Full(Exception):
    """Too many rows wait already."""


@dataclass(eq=False)
class _Part:
    """Rows of one request that go into one batch."""

    pairs: Sequence[Pair]
    since: float
    answer: asyncio.Future[np.ndarray]


class Batcher:
    """Collects rows and has them scored.

    Args:
        score: Scores rows, blocking; it runs in a thread, one call at a time.
        max_rows: Rows of a batch at most. A longer request waits with one batch at a time, so
            that shorter ones come in between.
        max_delay: Seconds that a row waits for others while the worker is free.
        max_waiting: Rows that may wait before new requests are refused.
        observe: Called with the number of rows of each batch.
    """

    def __init__(
        self,
        score: Score,
        *,
        max_rows: int,
        max_delay: float,
        max_waiting: int,
        observe: Callable[[int], None] = lambda rows: None,
    ) -> None:
        self._score = score
        self._max_rows = max_rows
        self._max_delay = max_delay
        self._max_waiting = max_waiting
        self._observe = observe
        self._waiting: dict[_Part, None] = {}
        self._arrived = asyncio.Event()
        self.rows_waiting = 0

    async def score(self, pairs: Sequence[Pair]) -> np.ndarray:
        """Score one request's rows, at least one, together with those of others.

        Returns:
            float32 [rows, labels], in the order of `pairs`.

        Raises:
            Full: too many rows wait.
            Exception: whatever `score` raised for these rows alone.
        """
        coming = min(len(pairs), self._max_rows)
        if self.rows_waiting and self.rows_waiting + coming > self._max_waiting:
            raise Full(f"{self.rows_waiting} rows wait already, at most {self._max_waiting} may")
        starts = range(0, len(pairs), self._max_rows)
        return np.concatenate([await self._wait(pairs[at : at + self._max_rows]) for at in starts])

    async def run(self) -> None:
        """Score batches until cancelled."""
        with ThreadPoolExecutor(1, thread_name_prefix="scoring") as worker:
            while True:
                if batch := await self._next():
                    self._observe(sum(len(part.pairs) for part in batch))
                    await self._answer(batch, worker)

    async def _wait(self, pairs: Sequence[Pair]) -> np.ndarray:
        loop = asyncio.get_running_loop()
        part = _Part(pairs, loop.time(), loop.create_future())
        self._waiting[part] = None
        self.rows_waiting += len(pairs)
        self._arrived.set()
        try:
            return await part.answer
        finally:
            self._leave(part)

    async def _next(self) -> list[_Part]:
        """Wait for a batch; it is empty where all who waited went away."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        deadline = next(iter(self._waiting)).since + self._max_delay
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while 0 < self.rows_waiting < self._max_rows:
                    self._arrived.clear()
                    await self._arrived.wait()
        return self._take()

    def _take(self) -> list[_Part]:
        batch: list[_Part] = []
        rows = 0
        for part in self._waiting:
            rows += len(part.pairs)
            if batch and rows > self._max_rows:
                break
            batch.append(part)
        for part in batch:
            self._leave(part)
        return batch

    def _leave(self, part: _Part) -> None:
        if part in self._waiting:
            del self._waiting[part]
            self.rows_waiting -= len(part.pairs)

    async def _answer(self, batch: Sequence[_Part], worker: ThreadPoolExecutor) -> None:
        pairs = [pair for part in batch for pair in part.pairs]
        loop = asyncio.get_running_loop()
        try:
            scores = await loop.run_in_executor(worker, self._score, pairs)
        except Exception as failed:
            if len(batch) == 1:
                _set(batch[0], failed)
                return
            # Whatever it was, only the request that caused it gets it.
            for part in batch:
                await self._answer([part], worker)
            return
        start = 0
        for part in batch:
            _set(part, scores[start : start + len(part.pairs)])
            start += len(part.pairs)


def _set(part: _Part, answer: np.ndarray | Exception) -> None:
    if part.answer.done():
        return
    if isinstance(answer, Exception):
        part.answer.set_exception(answer)
    else:
        part.answer.set_result(answer)
