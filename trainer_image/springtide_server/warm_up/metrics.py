"""Prometheus metrics of the warm-up, of the reference server and of the sidecar alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from prometheus_client import Counter, Gauge

from springtide_server.warm_up.asking import Outcome

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from springtide_server.warm_up.asking import Asked


class WarmUpMetrics:
    """The metrics of one process."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._queries = Counter(
            "springtide_warm_up_queries",
            "Warm-up queries by what became of them.",
            ["outcome"],
            registry=registry,
        )
        for outcome in get_args(Outcome):
            self._queries.labels(outcome)
        self._seconds = Gauge(
            "springtide_warm_up_seconds", "Duration of the last warm-up.", registry=registry
        )
        self._incomplete = Gauge(
            "springtide_warm_up_incomplete",
            "1 if the file of the last warm-up was not usable or a query was not answered, else 0.",
            registry=registry,
        )

    def observe(self, asked: Asked) -> None:
        """Record a warm-up."""
        for outcome, count in asked.counts.items():
            self._queries.labels(outcome).inc(count)
        self._seconds.set(asked.seconds)
        self._incomplete.set(not asked.complete)
