"""Streams: parts in order, limits, failures, and streams that are closed."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing

import pytest

from springtide_server.batching import QueueFull
from springtide_server.generating.streams import Streams
from springtide_server.model import Row

ROW = Row(("hello", None))


async def collected(parts) -> list[str]:
    return [part async for part in parts]


async def test_the_parts_are_what_is_new_and_together_the_whole():
    def generate(row, observe):
        for text in ("It", "It", "It wa", "It was"):
            assert observe(text)
        return "It was."

    assert await collected(Streams(generate).open(ROW)) == ["It", " wa", "s", "."]


async def test_a_text_that_changes_what_was_sent_is_sent_once_it_agrees_again():
    def generate(row, observe):
        for text in ("caf", "ca", "café"):
            observe(text)
        return "café!"

    assert await collected(Streams(generate).open(ROW)) == ["caf", "é", "!"]


async def test_a_failure_is_raised_after_the_parts_before_it():
    def generate(row, observe):
        observe("It")
        raise RuntimeError("no memory")

    parts = Streams(generate).open(ROW)
    assert await anext(parts) == "It"
    with pytest.raises(RuntimeError, match="no memory"):
        await anext(parts)


async def test_a_stream_beyond_the_limit_is_refused_until_one_has_ended():
    going_on = threading.Event()

    def generate(row, observe):
        going_on.wait(60)
        return "done"

    streams = Streams(generate, most=1)
    first = asyncio.ensure_future(collected(streams.open(ROW)))
    await asyncio.sleep(0)
    with pytest.raises(QueueFull, match="1 of at most 1 streams are open"):
        streams.open(ROW)
    going_on.set()
    assert await first == ["done"]
    assert await collected(streams.open(ROW)) == ["done"]


async def test_a_closed_stream_ends_its_generation():
    ended = threading.Event()

    def generate(row, observe):
        count = 0
        while observe("x" * (count := count + 1)):
            pass
        ended.set()
        return "x" * count

    streams = Streams(generate, most=1)
    async with aclosing(streams.open(ROW)) as parts:
        async for part in parts:
            assert part == "x"
            break
    assert await asyncio.to_thread(ended.wait, 60)
