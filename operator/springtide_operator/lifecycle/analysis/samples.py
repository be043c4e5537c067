"""The samples in a status: which metric fails, which has no number, what each shows.

Derived from the ring of samples alone, so that an operator that restarts continues from it.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from springtide_api.generation.rollout import AnalysisSample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from springtide_api.objects import ModelGeneration
    from springtide_api.update.analysis import Metric, Value
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedSample

PASS, FAIL, NO_DATA, ERROR = "Pass", "Fail", "NoData", "Error"


def metrics(seen: Observation) -> Sequence[Metric]:
    """The metrics of the spec."""
    analysis = seen.update.spec.rollout.analysis
    return analysis.metrics if analysis else ()


def bound(value: Value) -> str:
    """The bounds of a metric in short."""
    return ", ".join(
        f"{word} {limit}" for word, limit in (("min", value.min), ("max", value.max)) if limit
    )


def samples_of(generation: ModelGeneration, metric: Metric) -> list[AnalysisSample]:
    """Samples of a metric, newest first; without those that were compared with other bounds."""
    wanted = metric.name, bound(metric.value)
    return [
        s for s in reversed(generation.status.rollout.analysis) if (s.metric, s.bound) == wanted
    ]


def compare(metric: Metric, measured: ObservedSample) -> AnalysisSample:
    """Compare a measured value with the bounds of its metric."""
    value, number = metric.value, measured.value
    if number is None:
        verdict = ERROR if measured.invalid else NO_DATA
    else:
        inside = (value.min is None or number >= float(value.min)) and (
            value.max is None or number <= float(value.max)
        )
        verdict = PASS if inside else FAIL
    return AnalysisSample(
        time=measured.at,
        metric=metric.name,
        value=None if number is None else f"{number:.6g}",
        bound=bound(value),
        verdict=verdict,
        message=measured.problem[:128],
    )


def failed_metric(seen: Observation, generation: ModelGeneration) -> str:
    """Why a metric fails: its value was outside the bounds failureLimit times in a row.

    Samples without a number neither count nor end the row.
    """
    analysis = seen.update.spec.rollout.analysis
    for metric in metrics(seen):
        known = [s for s in samples_of(generation, metric) if s.value is not None]
        row = list(takewhile(lambda s: s.verdict == FAIL, known))
        if analysis and len(row) >= analysis.failure_limit:
            values = ", ".join(str(s.value) for s in reversed(row[: analysis.failure_limit]))
            return (
                f"metric {metric.name} is outside its bounds ({bound(metric.value)}) in "
                f"{analysis.failure_limit} samples in a row: {values} (rollout.analysis)"
            )
    return ""


def missing_metric(seen: Observation, generation: ModelGeneration) -> str:
    """Why a metric has no number: failureLimit samples in a row had none."""
    analysis = seen.update.spec.rollout.analysis
    for metric in metrics(seen):
        known = samples_of(generation, metric)
        row = list(takewhile(lambda s: s.value is None, known))
        if analysis and len(row) >= analysis.failure_limit:
            return (
                f"metric {metric.name} has no number in {analysis.failure_limit} samples in a row: "
                f"{row[0].message} (rollout.analysis)"
            )
    return ""


def invalid_metric(seen: Observation, generation: ModelGeneration) -> str:
    """Why a query or the address must be changed: its newest sample says so."""
    for index, metric in enumerate(metrics(seen)):
        newest = next(iter(samples_of(generation, metric)), None)
        if newest is not None and newest.verdict == ERROR:
            return (
                f"metric {metric.name} has no number: {newest.message}; change "
                f"spec.rollout.analysis.metrics[{index}].value.query or prometheus.address"
            )
    return ""


def unproven(seen: Observation, generation: ModelGeneration) -> str:
    """The metric whose newest sample does not pass, which prolongs the bake; empty: none."""
    for metric in metrics(seen):
        newest = next(iter(samples_of(generation, metric)), None)
        if newest is None:
            return f"metric {metric.name} has no sample yet"
        if newest.verdict != PASS:
            shown = newest.value or newest.message
            return f"metric {metric.name}: {newest.verdict} ({shown}; {newest.bound})"
    return ""
