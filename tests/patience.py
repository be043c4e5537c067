"""Deadlines for a machine that is busy: tests run side by side, and CI has two cores.

A second counts only if this process was given the time to notice it. So a deadline is what it says
on an idle machine, and on a busy one it does not end what was not given the time to come about.
"""

import asyncio
from contextlib import asynccontextmanager

BEAT = 0.05


@asynccontextmanager
async def within(seconds):
    """End the block by TimeoutError after so many seconds."""
    async with asyncio.timeout(None) as limit:
        counting = asyncio.create_task(_count(seconds, limit))
        try:
            yield
        finally:
            counting.cancel()


async def _count(seconds, limit):
    for _ in range(round(seconds / BEAT)):
        await asyncio.sleep(BEAT)
    limit.reschedule(asyncio.get_running_loop().time())
