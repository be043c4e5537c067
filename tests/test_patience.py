"""A deadline ends what does not come about, and counts no time that the process did not have."""

import asyncio
import time

import pytest
from patience import within


async def test_what_comes_about_in_time_is_not_ended():
    async with within(10):
        await asyncio.sleep(0)


async def test_what_does_not_come_about_ends_with_a_timeout_error():
    with pytest.raises(TimeoutError):
        async with within(0.1):
            await asyncio.Event().wait()


async def test_an_error_of_the_block_is_its_own():
    with pytest.raises(ZeroDivisionError):
        async with within(10):
            _ = 1 / 0


async def test_time_that_the_process_did_not_have_does_not_count():
    async with within(0.5):
        time.sleep(2)
        await asyncio.sleep(0)
        await asyncio.sleep(0.1)
