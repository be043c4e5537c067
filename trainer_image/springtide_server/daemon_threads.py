"""Blocking work in threads that do not keep the process from ending, unlike those of an executor.

Storage that does not answer can hold such a thread for ever.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING, TypeVar

from springtide_trainer.panics import panics_as_errors

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


async def in_daemon_thread(work: Callable[[], T], name: str) -> T:
    """Do work in a thread of its own, which goes on where its caller is cancelled.

    Args:
        work: A blocking function.
        name: Name of the thread.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(made: T) -> None:
        if not done.done():
            done.set_result(made)

    def fail(failed: BaseException) -> None:
        if not done.done():
            done.set_exception(failed)

    def run() -> None:
        with suppress(RuntimeError):  # the loop is closed: the process is about to end
            try:
                with panics_as_errors():
                    made = work()
            except BaseException as failed:
                loop.call_soon_threadsafe(fail, failed)
            else:
                loop.call_soon_threadsafe(settle, made)

    Thread(target=run, name=name, daemon=True).start()
    return await done
