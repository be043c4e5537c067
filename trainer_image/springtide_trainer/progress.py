"""Reports the progress of a stage to the operator, in the JSON of Kubeflow's trainer status.

Reports are sent from a thread, so an operator that is down or slow does not delay training.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
import time
import urllib.request
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import HTTPSHandler, ProxyHandler, build_opener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

log = logging.getLogger(__name__)

INTERVAL = 5.0
"""Minimum seconds between two reports."""
TIMEOUT = 3.0
"""Timeout of a report in seconds."""


@dataclass(frozen=True)
class Step:
    """A completed step of training, or a number of scored rows.

    Attributes:
        step: Number of completed steps.
        first: Number of steps completed before this process.
        total: Number of steps of the whole run.
        loss: Loss of the step; NaN where there is none.
    """

    step: int
    first: int
    total: int
    loss: float


_SHOW: ContextVar[Callable[[Step], None] | None] = ContextVar("show", default=None)


@contextmanager
def shown_by(show: Callable[[Step], None]) -> Iterator[None]:
    """Call a function at each step of the stage that runs in this block, in this process."""
    token = _SHOW.set(show)
    try:
        yield
    finally:
        _SHOW.reset(token)


@dataclass(frozen=True)
class Reporter:
    """The endpoint of the reports, with files that may change while the stage runs.

    Attributes:
        url: URL of the operator's endpoint.
        token_file: File of the bearer token. Read for each report, because it is rotated.
        ca_file: File of the trusted certificates. None: the system's.
    """

    url: str
    token_file: Path | None
    ca_file: Path | None

    @staticmethod
    def of(environ: Mapping[str, str]) -> Reporter | None:
        """Return the endpoint of the environment, or None."""
        url = environ.get("KUBEFLOW_TRAINER_SERVER_URL", "")
        if not url.startswith(("https://", "http://")):
            return None
        token, ca = (
            environ.get(f"KUBEFLOW_TRAINER_SERVER_{name}") for name in ("TOKEN", "CA_CERT")
        )
        return Reporter(url, Path(token) if token else None, Path(ca) if ca else None)

    def post(self, status: dict[str, Any]) -> None:
        """Send one report. A failure is only logged."""
        try:
            headers = {"Content-Type": "application/json"}
            if self.token_file is not None:
                headers["Authorization"] = f"Bearer {self.token_file.read_text().strip()}"
            body = json.dumps({"trainerStatus": status}).encode()
            request = urllib.request.Request(self.url, body, headers, method="POST")
            trust = ssl.create_default_context(cafile=self.ca_file) if self.ca_file else None
            # To the operator alone: a proxy of the pod is for hubs and trackers.
            opener = build_opener(ProxyHandler({}), HTTPSHandler(context=trust))
            with opener.open(request, timeout=TIMEOUT):
                pass
        except (OSError, ValueError) as unreachable:
            log.debug("progress report failed", extra={"error": str(unreachable)})


class Progress:
    """A training observer that reports percentage, remaining seconds and metrics.

    Args:
        reporter: The endpoint. None: nothing is reported.
        first: Number of steps completed before.
        total: Number of steps of the whole run.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self,
        reporter: Reporter | None,
        *,
        first: int,
        total: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reporter = reporter
        self._first = first
        self._total = total
        self._clock = clock
        self._began = clock()
        self._reported = -INTERVAL + self._began
        self._sending: threading.Thread | None = None

    def observe(self, step: int, loss: float) -> None:
        """Report a step, unless the last report is too recent or still being sent."""
        if show := _SHOW.get():
            show(Step(step, self._first, self._total, loss))
        now = self._clock()
        busy = self._sending is not None and self._sending.is_alive()
        if self._reporter is None or busy or (now - self._reported < INTERVAL):
            return
        self._reported = now
        arguments = (self.status(step, loss, now),)
        self._sending = threading.Thread(target=self._reporter.post, args=arguments, daemon=True)
        self._sending.start()

    def status(self, step: int, loss: float, now: float) -> dict[str, Any]:
        """Return the status of a step: integer percent and seconds, metrics as strings."""
        per_step = (now - self._began) / max(1, step - self._first)
        metrics = {"step": str(step), "total_steps": str(self._total), "loss": f"{loss:.4f}"}
        return {
            "progressPercentage": min(100, 100 * step // self._total),
            "estimatedRemainingSeconds": round(per_step * (self._total - step)),
            "metrics": [{"name": name, "value": value} for name, value in metrics.items()],
        }
