"""The real operator with a stopwatch on its event loop: python operator_process.py REPORT

At SIGUSR1 it appends one line of JSON to the file REPORT: the longest time that the loop stood
still since the line before, in seconds.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from springtide_operator import handlers

if TYPE_CHECKING:
    from springtide_operator.settings import Settings

INTERVAL = 0.02

run = handlers.run
worst = 0.0


async def heartbeat() -> None:
    global worst
    while True:
        began = time.perf_counter()
        await asyncio.sleep(INTERVAL)
        worst = max(worst, time.perf_counter() - began - INTERVAL)


async def timed(chosen: Settings) -> int:
    """Run the operator with the stopwatch beside it."""
    beating = asyncio.create_task(heartbeat())
    try:
        return await run(chosen)
    finally:
        beating.cancel()


def report(*_: object) -> None:
    global worst
    with Path(sys.argv[1]).open("a") as lines:
        lines.write(json.dumps({"seconds": worst}) + "\n")
    worst = 0.0


if __name__ == "__main__":
    handlers.run = timed
    signal.signal(signal.SIGUSR1, report)
    sys.exit(handlers.main())
