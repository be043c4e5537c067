"""Sends the outbox to one HTTP sink, one notification at a time, until each is accepted.

A sink that does not answer delays nothing but notifications. What it refuses for its content is
dropped; after every other failure all wait, longer each time, and the next one is tried.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import structlog

from springtide_operator.ports.cloud_event import CONTENT_TYPE, cloud_event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from springtide_operator.ports.outbox import Outbox, Waiting

AGENT = "springtide-operator"

REFUSED = frozenset({400, 413, 415, 422})
"""The sink says that this event is wrong; it would say so again."""

LONGEST_SECONDS = 300.0

LONGEST_RETRY_AFTER_SECONDS = 3600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Sink:
    """Where notifications are sent; an installation has one or none."""

    url: str = ""
    timeout_seconds: float = 10.0
    repeat_seconds: float = 3600.0
    """Facts so much older than the start are sent again."""
    directory: str = ""
    """May hold `authorization`, the value of that header, and `ca.crt`, which signs the sink."""


NOWHERE = Sink()


class Undelivered(Exception):
    """An attempt that failed: a word for the metric, and what the log says."""

    def __init__(self, word: str, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.word = word
        self.retry_after = retry_after


@dataclass
class Notifier:
    """Sends what waits in the outbox.

    Args:
        sink: where to.
        outbox: what waits.
        count_delivered: called for each notification that the sink accepted.
        count_failed: called with a word for each attempt that failed.
        backoff: seconds until the next attempt after so many failures in a row.
        sleep: waits for so many seconds.
    """

    sink: Sink
    outbox: Outbox
    count_delivered: Callable[[], None]
    count_failed: Callable[[str], None]
    backoff: Callable[[int], float] = lambda failures: random.uniform(
        0.1, min(LONGEST_SECONDS, 2.0 ** min(failures, 16))
    )
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _tls: tuple[bytes, ssl.SSLContext] | None = field(default=None, init=False)
    _sends: bool = field(default=False, init=False)

    def waiting(self) -> int:
        """Return how many are not delivered; the one that is being sent is in no queue."""
        return self.outbox.waiting() + self._sends

    async def run(self) -> None:
        """Send until cancelled."""
        timeout = aiohttp.ClientTimeout(total=self.sink.timeout_seconds)
        failures = 0
        async with aiohttp.ClientSession(
            timeout=timeout, trust_env=True, cookie_jar=aiohttp.DummyCookieJar()
        ) as session:
            while True:
                first = await self.outbox.next()
                self._sends = True
                error = await self._attempt(session, first)
                self._sends = False
                failures = failures + 1 if error else 0
                if error is not None:
                    wait = error.retry_after + self.backoff(failures)
                    log.warning(
                        "notification not delivered",
                        error=str(error),
                        retry_seconds=round(wait, 1),
                        waiting=self.outbox.waiting(),
                    )
                    await self.sleep(wait)

    async def _attempt(
        self, session: aiohttp.ClientSession, waiting: Waiting
    ) -> Undelivered | None:
        """Send one; return the failure if it is to be tried again, queued again."""
        try:
            status, headers = await self._post(session, cloud_event(waiting.notification))
            if status in REFUSED:
                self.count_failed(str(status))
                self.outbox.drop(waiting.notification, "refused")
                return None
            if not 200 <= status < 300:
                message = f"the sink answers {status}"
                raise Undelivered(str(status), message, retry_after=_retry_after(headers))
        except Undelivered as error:
            failure = error
        except Exception as error:  # a bug, too, must end neither the sender nor the operator
            log.exception("unexpected error; retrying later")
            failure = Undelivered("bug", type(error).__name__)
        else:
            self.count_delivered()
            return None
        self.count_failed(failure.word)
        self.outbox.put_back(waiting)
        return failure

    async def _post(
        self, session: aiohttp.ClientSession, body: bytes
    ) -> tuple[int, Mapping[str, str]]:
        """Post one body; what the sink answers beside status and headers is not read.

        Raises:
            Undelivered: no answer came.
        """
        headers = {"Content-Type": CONTENT_TYPE, "User-Agent": AGENT}
        if authorization := self._file("authorization"):
            headers["Authorization"] = authorization.decode("latin-1").strip()
        try:
            async with session.post(
                self.sink.url,
                data=body,
                headers=headers,
                ssl=self._context(),
                allow_redirects=False,  # what is sent, and its Authorization, is for this URL alone
            ) as answer:
                return answer.status, answer.headers
        except TimeoutError:
            message = f"no answer within {self.sink.timeout_seconds:g} s"
            raise Undelivered("timeout", message) from None
        except (aiohttp.ClientConnectorSSLError, aiohttp.ClientConnectorCertificateError) as error:
            raise Undelivered("tls", str(error)) from None
        except aiohttp.ClientConnectorError as error:
            raise Undelivered("connection", str(error)) from None
        except (aiohttp.ClientError, OSError) as error:
            # Not the text: it may hold the URL, and the URL a secret.
            raise Undelivered("connection", type(error).__name__) from None
        except ValueError as error:
            raise Undelivered("settings", f"authorization is no header: {error}") from None

    def _file(self, name: str) -> bytes:
        """Read a file of the Secret; it is read each time because it may be changed."""
        if not self.sink.directory:
            return b""
        try:
            return (Path(self.sink.directory) / name).read_bytes()
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise Undelivered("settings", f"{name} cannot be read: {error.strerror}") from None

    def _context(self) -> ssl.SSLContext | bool:
        """Trust the authority of the Secret, else those of the system."""
        authority = self._file("ca.crt")
        if not authority:
            return True
        if self._tls is None or self._tls[0] != authority:  # one context keeps one connection
            try:
                made = ssl.create_default_context(cadata=authority.decode("ascii"))
            except (ssl.SSLError, UnicodeDecodeError):
                raise Undelivered("settings", "ca.crt holds no certificates in PEM") from None
            self._tls = authority, made
        return self._tls[1]


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds of the header Retry-After, a number or a date, within bounds; 0: there is none."""
    text = headers.get("Retry-After", "")
    seconds = 0.0
    with contextlib.suppress(ValueError, TypeError):
        if text.isascii() and text.isdigit():
            seconds = float(text)
        elif text:
            sent = headers.get("Date")
            now = parsedate_to_datetime(sent) if sent else datetime.now(UTC)
            seconds = (parsedate_to_datetime(text) - now).total_seconds()
    return max(0.0, min(seconds, LONGEST_RETRY_AFTER_SECONDS))
