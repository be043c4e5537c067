"""Prometheus metrics: latency by generation and outcome, batches, queue, model."""

from __future__ import annotations

from typing import get_args

from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector

from springtide_server.answers import Outcome
from springtide_server.loading.scorer import Source
from springtide_server.warm_up.metrics import WarmUpMetrics

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one process, with their own registry.

    Args:
        model: Name of the model.
        generation: Generation, or a prefix of the digest.
        digest: Digest of the weights; empty without a model.
    """

    def __init__(self, model: str, generation: str, digest: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._generation = generation
        self._seconds = Histogram(
            "springtide_server_request_seconds",
            "Time from the first byte of an inference request to its response.",
            ["generation", "outcome"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        for outcome in get_args(Outcome):  # from 0 on, or Prometheus misses the first of each
            self._seconds.labels(generation, outcome)
        self.batch_rows = Histogram(
            "springtide_server_batch_rows",
            "Rows per scored batch.",
            ["generation"],
            buckets=_ROWS,
            registry=self.registry,
        ).labels(generation)
        self.waiting_rows = Gauge(
            "springtide_server_waiting_rows", "Rows waiting for a batch.", registry=self.registry
        )
        self.ready = Gauge(
            "springtide_server_ready", "1 if the server is ready, else 0.", registry=self.registry
        )
        self._loaded_from = Gauge(
            "springtide_server_loaded_from",
            "1 for where the model was loaded from: storage, copied, cache or fallback.",
            ["source"],
            registry=self.registry,
        )
        for source in get_args(Source):
            self._loaded_from.labels(source)
        Gauge(
            "springtide_server_model_info",
            "The configured model; always 1.",
            ["model", "generation", "digest"],
            registry=self.registry,
        ).labels(model, generation, digest).set(1)

    def set_source(self, source: Source) -> None:
        """Record where the model was loaded from."""
        self._loaded_from.labels(source).set(1)
        self.warm_up = WarmUpMetrics(self.registry)

    def observe_request(self, seconds: float, outcome: Outcome) -> None:
        """Record a completed inference request."""
        self._seconds.labels(self._generation, outcome).observe(seconds)
