"""The sidecar container of a server in one pod: it is ready once the server answered the queries.

It starts again if the server does, because that is cold then. A server that only does not answer
for a while is left alone: a probe of its own says whether it is ready.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from springtide_server.warm_up import http
from springtide_server.warm_up.asking import Asked, Target, warm_up
from springtide_server.warm_up.queries import beside
from springtide_trainer.storage import folder_name

if TYPE_CHECKING:
    from pathlib import Path

    from springtide_server.warm_up.http import Address, Answer
    from springtide_server.warm_up.metrics import WarmUpMetrics
    from springtide_trainer.objects.store import Place

log = logging.getLogger("springtide.warm-up")

POLL_SECONDS = 0.5
ANSWER_SECONDS = 5.0
"""Time limit of each answer that is no query's."""
REPORT_SECONDS = 30.0
"""How often a wait for the server is logged."""


@dataclass(frozen=True)
class Options:
    """Options of the command."""

    server: Address
    model: str
    artifacts: Path | Place
    """The folder that has the folders of the generations."""
    digest: str
    """MODEL_DIGEST; empty: no generation has been rolled out yet."""
    seconds: float
    """Time limit of the queries."""


class Sidecar:
    """Waits for the server, sends the queries, and watches that it is still the same server."""

    def __init__(self, options: Options, metrics: WarmUpMetrics) -> None:
        self._options = options
        self._metrics = metrics
        self.not_ready = f"waiting for the server at {options.server}"
        """Why the sidecar is not ready; empty if it is."""

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            waiting = self.not_ready
            await self._until_the_server_is_ready()
            self.not_ready = "the server is answering warm-up queries"
            self._metrics.observe(await self._warm_up())
            self.not_ready = ""
            await self._until_the_server_ends()
            self.not_ready = waiting
            log.warning("the server does not listen any more")

    async def _until_the_server_is_ready(self) -> None:
        """Wait for the model without a limit: the pod has no use without its server.

        A server that knows no model of this name may load it later, or never: it is asked after
        the time limit of the queries.
        """
        path = f"/v2/models/{quote(self._options.model)}/ready"
        loop = asyncio.get_running_loop()
        reported, unknown_until = float("-inf"), float("inf")
        while True:
            try:
                status = (await self._get(path)).status
                reason = f"status {status}"
            except OSError as failed:
                status, reason = 0, type(failed).__name__
            now = loop.time()
            if 400 <= status < 500:
                unknown_until = min(unknown_until, now + self._options.seconds)
            if 200 <= status < 400 or now >= unknown_until:
                return
            if now - reported > REPORT_SECONDS:
                reported = now
                log.info("%s: %s", self.not_ready, reason)
            await asyncio.sleep(POLL_SECONDS)

    async def _until_the_server_ends(self) -> None:
        """Return when nothing listens at its port; a server that is slow is not at its end."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            with suppress(OSError):
                async with asyncio.timeout(ANSWER_SECONDS):
                    if await http.nothing_listens(self._options.server):
                        return

    async def _warm_up(self) -> Asked:
        options = self._options
        if not options.digest:
            log.info("no generation has been rolled out yet: MODEL_DIGEST is empty")
            return Asked()
        file = beside(options.artifacts / folder_name(options.digest))
        return await warm_up(file, options.digest, self._target, seconds=options.seconds)

    async def _target(self) -> Target:
        return Target(self._options.server, self._options.model, await self._columns())

    async def _columns(self) -> list[str]:
        """Return the input tensors that the server wants as columns: of the shape [rows, 1]."""
        with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
            answer = await self._get(f"/v2/models/{quote(self._options.model)}")
            inputs = json.loads(answer.content)["inputs"]
            return [each["name"] for each in inputs if each["shape"][1:] in ([1], [-1])]
        return []

    async def _get(self, path: str) -> Answer:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await http.get(self._options.server, path)
