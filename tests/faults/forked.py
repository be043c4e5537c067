"""The operator's process as a fork of one that has imported its code: it starts in no time."""

import asyncio

from forks import Fork

OPERATOR = "springtide_operator.handlers"


class Forked(Fork):
    """What `asyncio.create_subprocess_exec` returns, of a fork that runs the operator.

    Args:
        environment: All its variables.
        log: The file that its messages are added to.
    """

    def __init__(self, environment, log):
        super().__init__(OPERATOR, environment, log, [OPERATOR])

    async def wait(self):
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self.sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self.sentinel)
        return super().wait()
