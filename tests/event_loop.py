"""The event loop of all tests: it ends after its connections have ended, however busy the machine.

A transport that was closed ends in a later turn of its loop, with TLS several turns later. A loop
that closes before leaves it open, and the collector reports it in whatever test is running.
"""

import asyncio
import selectors
import time

PATIENCE_SECONDS = 10.0
TURNS = 20
"""A transport leaves the selector some turns before its socket is closed."""


class PatientLoop(asyncio.SelectorEventLoop):
    """Closes once nothing is registered but its own wake-up; a socket that stays is reported."""

    def __init__(self):
        self._registered = selectors.DefaultSelector()
        super().__init__(self._registered)
        self._own = len(self._registered.get_map())

    def close(self):
        if not self.is_closed():
            self.run_until_complete(self._ended())
        super().close()

    async def _ended(self):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self._registered.get_map()) > self._own and time.monotonic() < deadline:
            await asyncio.sleep(0.01)
        for _ in range(TURNS):
            await asyncio.sleep(0)


def pytest_asyncio_loop_factories():
    """Give every test this loop; where there is one alone it is no part of a test's name."""
    return {"patient": PatientLoop}
