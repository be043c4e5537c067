"""Dynamic batching: rows of several requests are scored together, in one worker thread.

A batch is scored when it is full or its oldest row has waited for the maximum delay. While the
worker is busy, rows are collected for the next batch. Rows of cancelled requests are removed.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from springtide_trainer.panics import panics_as_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from springtide_server.model import Row

    Score = Callable[[Sequence[Row]], np.ndarray]


class QueueFull(Exception):
    """The queue has no room for the rows of a request."""


@dataclass(eq=False)
class _Part:
    """Rows of one request in one batch."""

    rows: Sequence[Row]
    since: float
    result: asyncio.Future[np.ndarray]


class Batcher:
    """Collects rows and scores them in batches.

    Args:
        score: Scores rows; a blocking function that runs in a thread, one call at a time.
        max_rows: Maximum rows of a batch. A longer request queues one batch at a time, so shorter
            requests are scored in between.
        max_delay: Maximum seconds that a row waits for other rows while the worker is idle.
        max_waiting: Maximum waiting rows; further requests are refused.
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

    async def score(self, rows: Sequence[Row]) -> np.ndarray:
        """Score the rows of one request, at least one, batched with those of other requests.

        Returns:
            float32 [rows, outputs], in the order of `rows`.

        Raises:
            QueueFull: too many rows are waiting.
            Exception: the exception that `score` raised for these rows.
        """
        coming = min(len(rows), self._max_rows)
        if self.rows_waiting and self.rows_waiting + coming > self._max_waiting:
            raise QueueFull(
                f"{self.rows_waiting} of at most {self._max_waiting} rows are waiting; retry later"
            )
        starts = range(0, len(rows), self._max_rows)
        return np.concatenate([await self._queue(rows[at : at + self._max_rows]) for at in starts])

    async def run(self) -> None:
        """Score batches until cancelled."""
        with ThreadPoolExecutor(1, thread_name_prefix="scoring") as worker:
            while True:
                if batch := await self._next():
                    self._observe(sum(len(part.rows) for part in batch))
                    await self._score_batch(batch, worker)

    async def _queue(self, rows: Sequence[Row]) -> np.ndarray:
        loop = asyncio.get_running_loop()
        part = _Part(rows, loop.time(), loop.create_future())
        self._waiting[part] = None
        self.rows_waiting += len(rows)
        self._arrived.set()
        try:
            return await part.result
        finally:
            self._remove(part)

    async def _next(self) -> list[_Part]:
        """Wait for a batch. It is empty if all waiting requests were cancelled."""
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
        taken = 0
        for part in self._waiting:
            taken += len(part.rows)
            if batch and taken > self._max_rows:
                break
            batch.append(part)
        for part in batch:
            self._remove(part)
        return batch

    def _remove(self, part: _Part) -> None:
        if part in self._waiting:
            del self._waiting[part]
            self.rows_waiting -= len(part.rows)

    def _scores(self, rows: Sequence[Row]) -> np.ndarray:
        with panics_as_errors():
            return self._score(rows)

    async def _score_batch(self, batch: Sequence[_Part], worker: ThreadPoolExecutor) -> None:
        all_rows = [row for part in batch for row in part.rows]
        loop = asyncio.get_running_loop()
        try:
            scores = await loop.run_in_executor(worker, self._scores, all_rows)
        except Exception as failed:
            if len(batch) == 1:
                _set(batch[0], failed)
                return
            # Score the requests separately, so that only the one that failed gets the error.
            for part in batch:
                await self._score_batch([part], worker)
            return
        start = 0
        for part in batch:
            _set(part, scores[start : start + len(part.rows)])
            start += len(part.rows)


def _set(part: _Part, result: np.ndarray | Exception) -> None:
    if part.result.done():
        return
    if isinstance(result, Exception):
        part.result.set_exception(result)
    else:
        part.result.set_result(result)
