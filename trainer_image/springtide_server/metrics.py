"""What Prometheus is told: latency by generation and outcome, batches, the queue, the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector

if TYPE_CHECKING:
    from springtide_server.answers import Outcome

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one process, in a registry of their own.

    Args:
        model: Name of the model.
        generation: Generation, or the beginning of the digest.
        digest: Digest of the weights; empty without a model.
    """

    def __init__(self, model: str, generation: str, digest: str) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._generation = generation
        self._seconds = Histogram(
            "springtide_server_request_seconds",
            "Time from the first byte of an inference request to its answer.",
            ["generation", "outcome"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.batch_rows = Histogram(
            "springtide_server_batch_rows",
            "Rows that were scored together.",
            ["generation"],
            buckets=_ROWS,
            registry=self.registry,
        ).labels(generation)
        self.waiting_rows = Gauge(
            "springtide_server_waiting_rows", "Rows that wait for a batch.", registry=self.registry
        )
        self.ready = Gauge(
            "springtide_server_ready", "1 when requests are welcome.", registry=self.registry
        )
        Gauge(
            "springtide_server_model_info",
            "The model that is served, or was asked for; always 1.",
            ["model", "generation", "digest"],
            registry=self.registry,
        ).labels(model, generation, digest).set(1)

    def observe_request(self, seconds: float, outcome: Outcome) -> None:
        """Count an inference request that ended."""
        self._seconds.labels(self._generation, outcome).observe(seconds)
