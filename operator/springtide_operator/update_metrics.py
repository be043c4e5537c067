"""What Prometheus reads of each update: one metric an entry, with where its number stands.

The numbers come from the newest plan, whose status outlives the operator: counters go on where they
were when it starts again. What is shown of an update is replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from springtide_api.update.status import GenerationRef
    from springtide_operator.lifecycle.state.plan import Plan

Values = Mapping[tuple[str, ...], float]
"""Values by the further labels of a metric; empty: an update has none now, and so no series."""


@dataclass(frozen=True)
class UpdateMetric:
    """A metric of every update."""

    name: str
    text: str
    values: Callable[[Plan], Values]
    labels: tuple[str, ...] = ()
    """Labels beside namespace and update."""
    family: type[GaugeMetricFamily | CounterMetricFamily] = GaugeMetricFamily


class UpdateMetrics(Collector):
    """The series of all updates; none outlives its update."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], dict[str, Values]] = {}

    def show(self, namespace: str, update: str, *, plan: Plan) -> None:
        """Show what a plan says of an update, and nothing else of it."""
        self._values[namespace, update] = {each.name: each.values(plan) for each in METRICS}

    def remove(self, namespace: str, update: str) -> None:
        """Drop the series of an update that is gone."""
        self._values.pop((namespace, update), None)

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield what a scrape reads."""
        for metric in METRICS:
            labels = ("namespace", "update", *metric.labels)
            family = metric.family(metric.name, metric.text, labels=labels)
            for update, values in self._values.items():
                for further, value in values[metric.name].items():
                    family.add_metric([*update, *further], value)
            yield family


def _number(value: float | None) -> Values:
    return {} if value is None else {(): value}


def _number_of(generation: GenerationRef | None) -> Values:
    return _number(generation.number if generation else None)


def _served_data(plan: Plan) -> Values:
    through = plan.status.freshness.served_data_through
    return _number(through.timestamp() if through else None)


def _is_true(plan: Plan, condition: str) -> Values:
    true = {each.type for each in plan.status.conditions if each.status == "True"}
    return _number(1 if condition in true else 0)


def _gpu_seconds_by_generation(plan: Plan) -> Values:
    history = plan.status.history
    return {(str(each.number),): each.gpu_seconds for each in history if each.gpu_seconds}


METRICS = (
    UpdateMetric(
        "springtide_live_generation",
        "Number of the generation that was promoted last; absent before the first.",
        lambda plan: _number_of(plan.status.live),
    ),
    UpdateMetric(
        "springtide_served_generation",
        "Number of the generation that is served: the pinned one, else the live one.",
        lambda plan: _number_of(plan.status.pinned or plan.status.live),
    ),
    UpdateMetric(
        "springtide_pinned",
        "1 from the pin of a generation until the targets are back on the live one.",
        lambda plan: _number(1 if plan.status.pinned else 0),
    ),
    UpdateMetric(
        "springtide_served_data_through_seconds",
        "End of the training data of the served generation, Unix seconds.",
        _served_data,
    ),
    UpdateMetric(
        "springtide_stalled",
        "1 while the spec or an object that it refers to is invalid or missing.",
        lambda plan: _is_true(plan, "Stalled"),
    ),
    UpdateMetric(
        "springtide_action_required",
        "1 while a user must act: a stall, a hold, an approval or a conflict.",
        lambda plan: _is_true(plan, "ActionRequired"),
    ),
    UpdateMetric(
        "springtide_awaiting_approval",
        "1 while an accepted generation waits for approval.",
        lambda plan: _number(1 if plan.awaits_approval else 0),
    ),
    UpdateMetric(
        "springtide_rollbacks",
        "Generations whose rollout was rolled back, since the update was created.",
        lambda plan: _number(plan.status.counters.rolled_back),
    ),
    UpdateMetric(
        "springtide_gpu_seconds",
        "Running seconds times GPUs of the pods that ended, since the update was created.",
        lambda plan: _number(plan.status.counters.gpu_seconds),
        family=CounterMetricFamily,
    ),
    UpdateMetric(
        "springtide_generation_gpu_seconds",
        "The same by generation, of those in status.history that used a GPU.",
        _gpu_seconds_by_generation,
        ("generation",),
        family=CounterMetricFamily,
    ),
    UpdateMetric(
        "springtide_canary_weight",
        "Percent that the canary has by its step in progress; 0 without a canary.",
        lambda plan: _number(plan.canary_weight or 0),
    ),
    UpdateMetric(
        "springtide_warm_pods",
        "Available pods of the previous generation that rollback.keepWarm keeps.",
        lambda plan: _number(plan.warm_pods),
    ),
    UpdateMetric(
        "springtide_warm_pods_missing",
        "Pods that rollback.keepWarm lacks; more than 0: a rollback is a rolling update.",
        lambda plan: _number(plan.warm_pods_missing),
    ),
    UpdateMetric(
        "springtide_holdback_weight",
        "Percent of the requests that the previous generation has in a bake; 0 without.",
        lambda plan: _number(plan.holdback_weight or 0),
    ),
    UpdateMetric(
        "springtide_analysis_value",
        "Newest value of a metric of rollout.analysis; absent without canary, bake or number.",
        lambda plan: {(s.metric,): float(s.value) for s in plan.samples if s.value},
        ("metric",),
    ),
    UpdateMetric(
        "springtide_analysis_verdict",
        "1 for the newest verdict of a metric of rollout.analysis, in a canary or a bake.",
        lambda plan: {(s.metric, s.verdict): 1 for s in plan.samples},
        ("metric", "verdict"),
    ),
)
