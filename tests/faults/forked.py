"""The operator's process as a fork of one that has imported its code: it starts in no time.

It ends, is killed and is waited for as any process is; only its imports are not its own.
"""

import asyncio
import multiprocessing
import os

FORKING = multiprocessing.get_context("forkserver")
FORKING.set_forkserver_preload(["springtide_operator.handlers"])


class Forked:
    """What `asyncio.create_subprocess_exec` returns, of a fork that runs the operator.

    Args:
        environment: All its variables.
        log: The file that its messages are added to.
    """

    def __init__(self, environment, log):
        self._process = FORKING.Process(target=_run, args=(environment, log), daemon=True)
        self._process.start()

    @property
    def returncode(self):
        return self._process.exitcode

    def kill(self):
        self._process.kill()

    def terminate(self):
        self._process.terminate()

    async def wait(self):
        loop, ended = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._process.sentinel, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        self._process.join()
        return self._process.exitcode


def _run(environment, log):
    os.environ.clear()
    os.environ.update(environment)
    with log.open("ab") as written:
        os.dup2(written.fileno(), 2)
    from springtide_operator.handlers import main

    raise SystemExit(main())
