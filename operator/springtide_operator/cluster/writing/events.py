"""Our Events: each is posted once. A replay, a restart or a second operator posts no second one.

The API server drops an Event after a while (1 h by default): what happens again later is posted
again.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cachetools import TTLCache

from springtide_api import schema
from springtide_operator.cluster.api import errors
from springtide_operator.cluster.api.kinds import EVENT

if TYPE_CHECKING:
    from collections.abc import Callable

    from springtide_operator.cluster.api.client import Client
    from springtide_operator.cluster.api.kinds import Kind, Raw

LONGEST = 1024
"""Bytes of an Event's message that the API server accepts."""

REMEMBERED = 4096

REMEMBERED_SECONDS = 600.0
"""Much shorter than the lifetime of an Event: an existing one has taken the name."""


@dataclass
class Events:
    """Posts Events under names derived from their content.

    Args:
        client: posts them.
        reporter: the component.
        monotonic: seconds of a clock.
    """

    client: Client
    reporter: str
    monotonic: Callable[[], float] = time.monotonic
    _posted: TTLCache[str, None] = field(init=False)

    def __post_init__(self) -> None:
        self._posted = TTLCache(REMEMBERED, REMEMBERED_SECONDS, timer=self.monotonic)

    async def post(self, kind: Kind, about: Raw, reason: str, message: str, *, type_: str) -> None:
        """Post one Event about an object, unless it exists.

        Args:
            kind: of the object.
            about: the object.
            reason: one word.
            message: a sentence; shown on one line.
            type_: Normal or Warning.
        """
        metadata = about["metadata"]
        text = one_line(message)
        name = event_name(metadata["name"], metadata["uid"], reason, text)
        if name in self._posted:
            return
        namespace = metadata["namespace"]
        now = self.client.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {
                "apiVersion": kind.api_version,
                "kind": kind.name,
                "namespace": namespace,
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "reason": reason,
            "message": text,
            "type": type_,
            "source": {"component": self.reporter},
            "reportingComponent": self.reporter,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        with contextlib.suppress(errors.AlreadyExists):
            await self.client.create(EVENT, body)
        self._posted[name] = None


def event_name(about: str, uid: str, reason: str, text: str) -> str:
    """Name an Event by object, reason and message."""
    digest = hashlib.sha256("\0".join((uid, reason, text)).encode()).hexdigest()
    return f"{about[:200]}.{digest[:16]}"


def one_line(message: str) -> str:
    """Escape what would break a line or a terminal, and cut to what an Event may hold."""
    shown = schema.one_line(message)
    raw = shown.encode()
    return shown if len(raw) <= LONGEST else raw[: LONGEST - 3].decode("utf-8", "ignore") + "..."
