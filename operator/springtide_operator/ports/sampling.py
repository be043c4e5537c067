"""Asks the queries of plans in the background, and keeps the newest sample of each metric.

In memory only: after a restart they are asked again. A reconcile never waits for an answer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from springtide_operator.lifecycle.state.observed import ObservedSample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from springtide_operator.lifecycle.state.plan import Query
    from springtide_operator.ports.prometheus import Prometheus

IN_FLIGHT = 16
"""Queries at one time."""

log = structlog.get_logger(__name__)


@dataclass
class Sampling:
    """The queries in progress and the samples of all updates.

    Args:
        prometheus: answers queries.
        now: the API server's time.
        wake: called with namespace and update once its samples are there.
    """

    prometheus: Prometheus
    now: Callable[[], datetime]
    wake: Callable[[str, str], None]
    _samples: dict[tuple[str, str], tuple[ObservedSample, ...]] = field(default_factory=dict)
    _tasks: dict[tuple[str, str], asyncio.Task[None]] = field(default_factory=dict)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(IN_FLIGHT))

    def of(self, namespace: str, update: str) -> tuple[ObservedSample, ...]:
        """Return the newest samples of an update."""
        return self._samples.get((namespace, update), ())

    def start(self, namespace: str, update: str, queries: Sequence[Query]) -> None:
        """Ask queries, unless some of this update are in progress."""
        key = namespace, update
        if queries and key not in self._tasks:
            self._tasks[key] = asyncio.create_task(self._sample(key, queries))

    def remove(self, namespace: str, update: str) -> None:
        """Drop the samples of an update that is gone."""
        self._samples.pop((namespace, update), None)

    async def close(self) -> None:
        """End all queries and connections."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.prometheus.close()

    async def _sample(self, key: tuple[str, str], queries: Sequence[Query]) -> None:
        try:
            asked = await asyncio.gather(*map(self._ask, queries))
            self._samples[key] = tuple(asked)
        except Exception:
            log.exception("unexpected error in a query", namespace=key[0], update=key[1])
        finally:
            self._tasks.pop(key)
        self.wake(*key)

    async def _ask(self, query: Query) -> ObservedSample:
        async with self._slots:
            answer = await self.prometheus.ask(query.address, query.expression, query.at)
        return ObservedSample(
            generation=query.generation,
            metric=query.metric,
            expression=query.expression,
            part=query.part,
            at=query.at or self.now(),
            value=answer.value,
            problem=answer.problem,
            invalid=answer.invalid,
        )
