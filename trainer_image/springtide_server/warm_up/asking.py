"""Sends warm-up queries to a server, one after the other, within a time limit.

They decide nothing: whatever the answers are, the server gets requests afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal, get_args
from urllib.parse import quote

from springtide_server.daemon_threads import in_daemon_thread
from springtide_server.warm_up import http
from springtide_server.warm_up.queries import Unusable, encode, read

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from springtide_server.warm_up.http import Address
    from springtide_server.warm_up.queries import Query
    from springtide_trainer.objects.store import Place

log = logging.getLogger("springtide.warm-up")

Outcome = Literal["answered", "refused", "failed", "unanswered"]
"""refused: status 4xx; failed: another status, or no HTTP; unanswered: the time was over."""

RETRY_SECONDS = 0.2
"""Wait after status 503, which says that a server is overloaded or not ready yet."""


@dataclass
class Asked:
    """What became of the queries."""

    counts: dict[Outcome, int] = field(default_factory=lambda: dict.fromkeys(get_args(Outcome), 0))
    seconds: float = 0.0
    problem: str = ""
    """Why the file could not be used; empty if it could, or if there is none."""

    @property
    def complete(self) -> bool:
        """Whether each query of a usable file was answered."""
        return not self.problem and self.counts["answered"] == sum(self.counts.values())

    def fields(self) -> dict[str, object]:
        """Return the fields of the log line."""
        found: dict[str, object] = {"seconds": round(self.seconds, 3)}
        if self.problem:
            found["problem"] = self.problem
        return found | dict(self.counts)


@dataclass(frozen=True)
class Target:
    """The server and how it is asked."""

    address: Address
    model: str
    columns: Sequence[str] = ()
    """See `queries.encode`."""
    headers: Mapping[str, str] = field(default_factory=dict)


async def warm_up(
    file: Path | Place, digest: str, target: Callable[[], Awaitable[Target]], *, seconds: float
) -> Asked:
    """Read the queries of a model and send them all, or as many as the time allows.

    Args:
        file: Where the queries are.
        digest: The digest of the model.
        target: Finds out how the server is asked; called if there are queries.
        seconds: Time limit of everything.
    """
    asked, began = Asked(), time.monotonic()
    queries: list[Query] = []
    try:
        async with asyncio.timeout(seconds):
            queries = await in_daemon_thread(partial(read, file, digest), "reading")
            if queries:
                server = await target()
                for query in queries:
                    asked.counts[await _ask(server, query)] += 1
    except Unusable as unusable:
        asked.problem = str(unusable)
    except TimeoutError:
        asked.counts["unanswered"] = len(queries) - sum(asked.counts.values())
        asked.problem = "" if queries else f"{file} was not read within {seconds:g} s"
    asked.seconds = time.monotonic() - began
    level = logging.INFO if asked.complete else logging.WARNING
    log.log(level, "warmed up", extra={"fields": asked.fields()})
    return asked


async def _ask(server: Target, query: Query) -> Outcome:
    path = f"/v2/models/{quote(server.model)}/infer"
    body = encode(query, server.columns)
    while True:
        try:
            status = (await http.post(server.address, path, body, server.headers)).status
        except OSError:
            return "failed"
        if status != 503:
            break
        await asyncio.sleep(RETRY_SECONDS)
    if 200 <= status < 300:
        return "answered"
    return "refused" if 400 <= status < 500 else "failed"
