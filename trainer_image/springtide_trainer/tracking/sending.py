"""A thread for each tracker: it opens the tracker, sends what is collected, and tries again.

Training only appends to a list. What cannot be sent stays there until the end, at most some
thousand numbers.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from springtide_trainer.tracking.tracker import Ending, Point, Tracker

log = logging.getLogger(__name__)

INTERVAL = 10.0
"""Seconds between two tries, and between two deliveries."""
LONGEST = 200
"""Characters of a warning: the result must fit a termination message."""
SECRET = re.compile("KEY|TOKEN|PASS|SECRET|CREDENTIAL|AUTH|CONNECTION", re.IGNORECASE)
"""Variables whose values are in no warning."""
THREAD = "tracking-"
"""Names of the threads begin with this."""


class Sending:
    """The deliveries to one tracker.

    Args:
        name: Name of the tracker, for warnings.
        connect: Opens it.
        interval: Seconds between two deliveries.
    """

    def __init__(
        self, name: str, connect: Callable[[], Tracker], *, interval: float = INTERVAL
    ) -> None:
        self.name = name
        self.warning = ""
        """Why not all was sent; empty if it was, or nothing failed so far."""
        self._connect = connect
        self._interval = interval
        self._tracker: Tracker | None = None
        self._waiting: list[Point] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._ending: Ending = "finished"
        # The storage is a variable of the context, which a thread does not inherit.
        self._thread = threading.Thread(
            target=copy_context().run, args=(self._work,), daemon=True, name=f"{THREAD}{name}"
        )

    def start(self) -> None:
        """Open the tracker, in its thread."""
        try:
            self._thread.start()
        except RuntimeError as error:  # the pod may have no more threads
            self._failed(str(error))

    def add(self, points: Sequence[Point]) -> None:
        """Send points with the next delivery."""
        with self._lock:
            self._waiting.extend(points)

    def end(self, ending: Ending) -> None:
        """Send what is left, at once; `wait` waits for it."""
        self._ending = ending
        self._ended.set()

    def wait(self, seconds: float) -> None:
        """Wait for the end of the last delivery. A thread that hangs ends with the process."""
        if self._thread.ident is None:
            return
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._failed("no answer in time; the run goes on without it")

    def _work(self) -> None:
        last = False
        while not last:
            last = self._ended.wait(self._interval if self._tracker or self.warning else 0)
            try:
                self._deliver(last=last)
                self.warning = ""
            except ModuleNotFoundError as missing:
                self._failed(f"the trainer image has no package {missing.name}")
                return
            except (Exception, SystemExit) as error:
                self._failed(f"{type(error).__name__}: {error}")

    def _deliver(self, *, last: bool) -> None:
        if self._tracker is None:
            self._tracker = self._connect()
        with self._lock:
            points = list(self._waiting)
        if points:
            self._tracker.log(points)
            with self._lock:
                del self._waiting[: len(points)]
        if last:
            self._tracker.close(self._ending)

    def _failed(self, why: str) -> None:
        warning = f"{self.name}: {without_secrets(why, os.environ)}"[:LONGEST]
        if warning != self.warning:
            log.warning("tracking failed", extra={"tracker": self.name, "error": warning})
        self.warning = warning


def hangs() -> bool:
    """Return whether a tracker still hangs: at a plain exit, its package may wait for it."""
    return any(each.name.startswith(THREAD) for each in threading.enumerate())


def without_secrets(text: str, environ: Mapping[str, str]) -> str:
    """Return the first line of an error, without credentials of the environment or of a URL."""
    line = text.strip().splitlines()[0] if text.strip() else ""
    secrets = [value for name, value in environ.items() if SECRET.search(name) and len(value) > 3]
    for secret in sorted(secrets, key=len, reverse=True):
        line = line.replace(secret, "***")
    return re.sub(r"//[^/@\s]+@", "//***@", line)
