"""An operator in this process with kopf's watch of our kinds: what `kopf.operator` runs, no more.

`kopf.operator` takes signals and, at its end, cancels every task of the loop: a test has others.
"""

import asyncio
import signal

import kopf

from springtide_operator import handlers


class Edge:
    """Starts and drops an operator together with its watch. What ends kopf ends the operator."""

    def __init__(self, operator, **watching):
        self.operator = operator
        self.arguments = handlers.scope(operator.settings)
        for name, value in watching.items():
            setattr(self.arguments["settings"].watching, name, value)
        self._tasks = []

    async def start(self):
        known = kopf.OperatorRegistry()
        handlers.feed(known, self.operator)
        self.arguments["settings"].process.ultimate_exiting_timeout = None
        self._tasks = await asyncio.create_task(
            kopf.spawn_tasks(registry=known, **self.arguments)  # with its own credentials
        )
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
        self._tasks = []

    def _over(self, task):
        if not task.cancelled() and task.exception() and not self.operator.ended.done():
            self.operator.ended.set_exception(task.exception())
