"""What Prometheus reads. Labels are bounded: verbs, codes and kinds, and the update's own name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping


class StatusCounter(Collector):
    """A counter that statuses hold: it goes on where it was when the operator starts again.

    What is shown of an update is replaced as a whole.
    """

    def __init__(self, name: str, text: str, *labels: str, registry: CollectorRegistry) -> None:
        self._described = name, text, ("namespace", "update", *labels)
        self._values: dict[tuple[str, str], Mapping[tuple[str, ...], float]] = {}
        registry.register(self)

    def show(self, namespace: str, update: str, *, values: Mapping[tuple[str, ...], float]) -> None:
        """Show these values of an update, by its further labels, and no others."""
        self._values[namespace, update] = values

    def remove(self, namespace: str, update: str) -> None:
        """Drop the series of an update."""
        self._values.pop((namespace, update), None)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yield what a scrape reads."""
        name, text, labels = self._described
        family = CounterMetricFamily(name, text, labels=labels)
        for update, values in self._values.items():
            for further, value in values.items():
                family.add_metric([*update, *further], value)
        yield family


class Metrics:
    """All metrics of one operator, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._of_updates: list[Gauge] = []
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
        self.live_generation = self._by_update(
            "springtide_live_generation",
            "Number of the generation that was promoted last; absent before the first.",
        )
        self.served_generation = self._by_update(
            "springtide_served_generation",
            "Number of the generation that is served: the pinned one, else the live one.",
        )
        self.pinned = self._by_update(
            "springtide_pinned",
            "1 from the pin of a generation until the targets are back on the live one.",
        )
        self.served_data = self._by_update(
            "springtide_served_data_through_seconds",
            "End of the training data of the served generation, Unix seconds.",
        )
        self.stalled = self._by_update(
            "springtide_stalled",
            "1 while the spec or an object that it refers to is invalid or missing.",
        )
        self.action_required = self._by_update(
            "springtide_action_required",
            "1 while a user must act: a stall, a hold, an approval or a conflict.",
        )
        self.awaiting_approval = self._by_update(
            "springtide_awaiting_approval",
            "1 while an accepted generation waits for approval.",
        )
        self.rollbacks = self._by_update(
            "springtide_rollbacks",
            "Generations whose rollout was rolled back, since the update was created.",
        )
        self.gpu_seconds = StatusCounter(
            "springtide_gpu_seconds",
            "Running seconds times GPUs of the pods that ended, since the update was created.",
            registry=self.registry,
        )
        self.generation_gpu_seconds = StatusCounter(
            "springtide_generation_gpu_seconds",
            "The same by generation, of those in status.history that used a GPU.",
            "generation",
            registry=self.registry,
        )
        self.canary_weight = self._by_update(
            "springtide_canary_weight",
            "Percent that the canary has by its step in progress; 0 without a canary.",
        )
        self.warm_pods = self._by_update(
            "springtide_warm_pods",
            "Available pods of the previous generation that rollback.keepWarm keeps.",
        )
        self.warm_pods_missing = self._by_update(
            "springtide_warm_pods_missing",
            "Pods that rollback.keepWarm lacks; more than 0: a rollback is a rolling update.",
        )
        self.holdback_weight = self._by_update(
            "springtide_holdback_weight",
            "Percent of the requests that the previous generation has in a bake; 0 without.",
        )
        self.analysis_value = self._by_update(
            "springtide_analysis_value",
            "Newest value of a metric of rollout.analysis; absent without canary, bake or number.",
            "metric",
        )
        self.analysis_verdict = self._by_update(
            "springtide_analysis_verdict",
            "1 for the newest verdict of a metric of rollout.analysis, in a canary or a bake.",
            "metric",
            "verdict",
        )
        self._analysed: dict[tuple[str, str], dict[str, str]] = {}
        """Verdict by metric, of each update that has series."""
        self.refused_writes = Counter(
            "springtide_refused_writes",
            "Writes that quota, admission or missing rights refused, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.notifications_delivered = Counter(
            "springtide_notifications_delivered",
            "Notifications that the sink accepted.",
            registry=self.registry,
        )
        self.notification_failures = Counter(
            "springtide_notification_failures",
            "Failed attempts to deliver a notification, by status code or cause.",
            ["reason"],
            registry=self.registry,
        )
        self.notifications_dropped = Counter(
            "springtide_notifications_dropped",
            "Notifications that will not be delivered: full, refused or expired.",
            ["reason"],
            registry=self.registry,
        )

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

    def _by_update(self, name: str, text: str, *labels: str) -> Gauge:
        """Register a number that each update has, or each of its metrics."""
        gauge = Gauge(name, text, ["namespace", "update", *labels], registry=self.registry)
        if not labels:
            self._of_updates.append(gauge)
        return gauge

    def set_or_remove(
        self, gauge: Gauge, namespace: str, update: str, *, value: float | None
    ) -> None:
        """Show the number of an update; None: it has none now, and its series goes."""
        if value is not None:
            gauge.labels(namespace, update).set(value)
        elif (namespace, update) in gauge._metrics:  # the library has no public method
            gauge.remove(namespace, update)

    def set_analysis(
        self, namespace: str, update: str, *, values: Mapping[str, tuple[str, float | None]]
    ) -> None:
        """Show the newest verdict and value of each metric, and no other of this update."""
        for metric, verdict in self._analysed.pop((namespace, update), {}).items():
            self.analysis_verdict.remove(namespace, update, metric, verdict)
            if (namespace, update, metric) in self.analysis_value._metrics:
                self.analysis_value.remove(namespace, update, metric)
        for metric, (verdict, value) in values.items():
            self.analysis_verdict.labels(namespace, update, metric, verdict).set(1)
            if value is not None:
                self.analysis_value.labels(namespace, update, metric).set(value)
        if values:
            shown = {metric: verdict for metric, (verdict, _) in values.items()}
            self._analysed[namespace, update] = shown

    def remove_update(self, namespace: str, update: str) -> None:
        """Drop the series of an update that is gone."""
        self.set_analysis(namespace, update, values={})
        self.gpu_seconds.remove(namespace, update)
        self.generation_gpu_seconds.remove(namespace, update)
        for gauge in self._of_updates:
            self.set_or_remove(gauge, namespace, update, value=None)
