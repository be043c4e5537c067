"""An event loop that skips the time in which everything waits: minutes of a history take none."""

import asyncio
import selectors


class _Skipping(selectors.DefaultSelector):
    def __init__(self):
        super().__init__()
        self.now = 0.0

    def select(self, timeout=None):
        found = super().select(0)
        if not found:
            assert timeout is not None, "everything waits, and nothing will come"
            self.now += max(timeout, 0.0)
        return found


class SkippingLoop(asyncio.SelectorEventLoop):
    """Its time passes only where nothing is left to do; nothing may wait for a socket."""

    def __init__(self):
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self):
        return self._skipping.now

    monotonic = time
    """So that it can stand in for the module `time`."""


def run(main):
    """Run `main(loop)`, a coroutine function, in such a loop."""
    loop = SkippingLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(loop))
