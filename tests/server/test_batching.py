"""Rows of several requests are batched fairly, and removed when a request is cancelled."""

import asyncio
import threading
from contextlib import asynccontextmanager

import numpy as np
import pytest

from springtide_server.batching import Batcher, QueueFull


def lengths(pairs) -> np.ndarray:
    """Score a row by the length of its text."""
    return np.array([[len(text)] for text, _ in pairs], dtype=np.float32)


def rows(*texts: str):
    return [(text, None) for text in texts]


class Gate:
    """A scorer that blocks until it is opened, and records its batches."""

    def __init__(self):
        self.opened = threading.Event()
        self.batches = []

    def __call__(self, pairs):
        self.batches.append([text for text, _ in pairs])
        assert self.opened.wait(60)
        return lengths(pairs)


@asynccontextmanager
async def running(score, *, max_rows=4, max_delay=0.0, max_waiting=8):
    batcher = Batcher(score, max_rows=max_rows, max_delay=max_delay, max_waiting=max_waiting)
    task = asyncio.create_task(batcher.run())
    try:
        yield batcher
    finally:
        task.cancel()
        await asyncio.wait({task})


async def begin(batcher, *texts):
    """Start a request and wait until it is in the queue."""
    task = asyncio.create_task(batcher.score(rows(*texts)))
    await asyncio.sleep(0)
    return task


async def until(true):
    while not true():
        await asyncio.sleep(0.001)


async def test_rows_that_arrive_while_the_worker_is_busy_are_one_batch():
    gate = Gate()
    async with running(gate) as batcher:
        first = await begin(batcher, "first")
        await until(lambda: gate.batches)
        others = [await begin(batcher, "a"), await begin(batcher, "bb", "ccc")]
        gate.opened.set()

        assert [answer.tolist() for answer in await asyncio.gather(first, *others)] == [
            [[5]],
            [[1]],
            [[2], [3]],
        ]
    assert gate.batches == [["first"], ["a", "bb", "ccc"]]


async def test_a_row_waits_for_other_rows_for_at_most_the_maximum_delay():
    gate = Gate()
    gate.opened.set()
    async with running(gate, max_delay=3600.0) as batcher:
        waiting = await begin(batcher, "a")
        full = await begin(batcher, "b", "c", "d")
        await asyncio.gather(waiting, full)
    async with running(gate, max_delay=0.001) as batcher:
        await batcher.score(rows("alone"))

    assert gate.batches == [["a", "b", "c", "d"], ["alone"]]


async def test_short_requests_are_scored_between_the_batches_of_a_long_one():
    gate = Gate()
    async with running(gate, max_rows=2) as batcher:
        long = await begin(batcher, "1", "2", "3", "4", "5")
        await until(lambda: gate.batches)
        short = await begin(batcher, "s")
        gate.opened.set()
        await asyncio.gather(long, short)

    assert gate.batches == [["1", "2"], ["s"], ["3", "4"], ["5"]]
    assert long.result().tolist() == [[1]] * 5


async def test_a_full_queue_refuses_rows_and_names_both_numbers():
    gate = Gate()
    async with running(gate, max_waiting=2) as batcher:
        scored = await begin(batcher, "scored")
        await until(lambda: gate.batches)
        waiting = await begin(batcher, "a", "b")
        with pytest.raises(QueueFull, match="2 of at most 2 rows are waiting"):
            await batcher.score(rows("c"))
        gate.opened.set()
        await asyncio.gather(scored, waiting)


async def test_an_empty_queue_accepts_a_request_longer_than_its_limit():
    async with running(lengths, max_waiting=2) as batcher:
        assert len(await batcher.score(rows(*"abcdefghij"))) == 10


async def test_rows_of_a_cancelled_request_are_not_scored():
    gate = Gate()
    async with running(gate) as batcher:
        first = await begin(batcher, "first")
        await until(lambda: gate.batches)
        gone = await begin(batcher, "gone")
        stays = await begin(batcher, "stays")
        gone.cancel()
        await asyncio.wait({gone})
        assert batcher.rows_waiting == 1
        gate.opened.set()
        await asyncio.gather(first, stays)

    assert gate.batches == [["first"], ["stays"]]
    assert batcher.rows_waiting == 0


async def test_a_request_is_served_after_all_earlier_ones_were_cancelled():
    async with running(lengths, max_delay=0.05) as batcher:
        gone = await begin(batcher, "gone")
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.wait({gone})

        assert (await batcher.score(rows("next"))).tolist() == [[4]]


@pytest.mark.survives(
    "Requests",
    "a row that breaks the model",
    "fails its own request only",
)
async def test_a_row_that_fails_only_fails_its_own_request():
    def picky(pairs):
        if any(text == "bad" for text, _ in pairs):
            raise RuntimeError("broken")
        return lengths(pairs)

    async with running(picky, max_delay=0.01) as batcher:
        good, bad, other = await asyncio.gather(
            batcher.score(rows("good")),
            batcher.score(rows("bad")),
            batcher.score(rows("other")),
            return_exceptions=True,
        )
        assert (good.tolist(), other.tolist()) == ([[4]], [[5]])
        assert isinstance(bad, RuntimeError)
        assert (await batcher.score(rows("next"))).tolist() == [[4]]
