"""What Prometheus reads. Labels are bounded: verbs, codes and kinds, and the update's own name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from springtide_operator.update_metrics import UpdateMetrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class NotificationMetrics:
    """What becomes of notifications."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.delivered = Counter(
            "springtide_notifications_delivered",
            "Notifications that the sink accepted.",
            registry=registry,
        )
        self.failures = Counter(
            "springtide_notification_failures",
            "Failed attempts to deliver a notification, by status code or cause.",
            ["reason"],
            registry=registry,
        )
        self.dropped = Counter(
            "springtide_notifications_dropped",
            "Notifications that will not be delivered: full, refused or expired.",
            ["reason"],
            registry=registry,
        )
        for reason in ("full", "refused", "expired"):  # from 0 on, or an alert misses the first
            self.dropped.labels(reason)


class Metrics:
    """All metrics of one operator, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconcile_seconds = Histogram(
            "springtide_reconcile_seconds",
            "Duration of one reconcile of one update.",
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self.reconcile_failures = Counter(
            "springtide_reconcile_failures",
            "Failed reconciles: retry (the environment) or bug.",
            ["kind"],
            registry=self.registry,
        )
        for kind in ("retry", "bug"):  # from 0 on, or an alert misses the first of each
            self.reconcile_failures.labels(kind)
        self.requests = Counter(
            "springtide_api_requests",
            "Requests to the API server, by verb and status; 0: no answer.",
            ["verb", "code"],
            registry=self.registry,
        )
        self.status_writes = Counter(
            "springtide_status_writes",
            "Statuses written, by kind.",
            ["kind"],
            registry=self.registry,
        )
        self.updates = UpdateMetrics()
        self.registry.register(self.updates)
        self.refused_writes = Counter(
            "springtide_refused_writes",
            "Writes that quota, admission or missing rights refused, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.notifications = NotificationMetrics(self.registry)

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Register a number that is read at each scrape."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def gauges(self, name: str, text: str, values: Mapping[str, Callable[[], float]]) -> None:
        """Register one number for each kind."""
        gauge = Gauge(name, text, ["kind"], registry=self.registry)
        for kind, value in values.items():
            gauge.labels(kind).set_function(value)

    def watched(self, namespace: str, selector: str) -> None:
        """Show what is watched: one namespace, those of a label selector, or all."""
        gauge = Gauge(
            "springtide_watch_scope",
            "1; the labels are the namespace, or the selector of namespaces, that is watched.",
            ["namespace", "selector"],
            registry=self.registry,
        )
        gauge.labels(namespace, selector).set(1)
