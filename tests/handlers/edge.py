"""An operator in this process with kopf's watch of our kinds: what `kopf.operator` runs, no more.

`kopf.operator` takes signals and, at its end, cancels every task of the loop: a test has others.
"""

import asyncio
import signal
import weakref

import kopf

from springtide_operator import handlers

_families = weakref.WeakKeyDictionary()
"""Of each task that an `Edge` started, or that such a one started: all of them."""


def _recorded(loop, coroutine, **options):
    """Make a task, and record it where the one that makes it is recorded."""
    task = asyncio.Task(coroutine, loop=loop, **options)
    parent = asyncio.current_task(loop)
    if parent is not None and (family := _families.get(parent)) is not None:
        _families[task] = family
        family.add(task)
    return task


class Edge:
    """Starts and drops an operator together with its watch. What ends kopf ends the operator."""

    def __init__(self, operator, **watching):
        self.operator = operator
        self.arguments = handlers.scope(operator.settings)
        for name, value in watching.items():
            setattr(self.arguments["settings"].watching, name, value)
        self._tasks = []
        self._family = weakref.WeakSet()

    async def start(self):
        asyncio.get_running_loop().set_task_factory(_recorded)
        known = kopf.OperatorRegistry()
        handlers.feed(known, self.operator)
        self.arguments["settings"].process.ultimate_exiting_timeout = None
        # In a task of its own: with its own credentials.
        starting = asyncio.create_task(kopf.spawn_tasks(registry=known, **self.arguments))
        _families[starting] = self._family
        self._tasks = await starting
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)
        for task in self._tasks:
            task.add_done_callback(self._over)
        await self.operator.start()

    async def drop(self):
        """End at once, as a crash would."""
        await self.operator.drop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # Requests of a scan outlive the task that scans, and wait for a login without end.
        while left := {task for task in self._family if not task.done()}:
            for task in left:
                task.cancel()
            await asyncio.wait(left)
        self._tasks = []

    def _over(self, task):
        if not task.cancelled() and task.exception() and not self.operator.ended.done():
            self.operator.ended.set_exception(task.exception())
