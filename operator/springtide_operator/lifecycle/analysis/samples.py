"""The samples in a status: which metric fails, which has no number, what each shows.

Derived from the ring of samples and the comparisons alone, so that an operator that restarts
continues from them.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from springtide_operator.lifecycle.analysis.comparison import comparison_of, has_ended, regression

if TYPE_CHECKING:
    from springtide_api.generation.rollout import AnalysisSample
    from springtide_api.objects import ModelGeneration
    from springtide_api.update.analysis import Metric
    from springtide_operator.lifecycle.analysis.watched import Watched
    from springtide_operator.lifecycle.state.observation import Observation

PASS, FAIL, NO_DATA, ERROR = "Pass", "Fail", "NoData", "Error"

LOOKS = 2
"""The first look of a test only estimates the share of the generation compared with."""

WITHOUT_DATA = "NoData"
"""Cause of a failed rollout whose metrics had no number: not the generation's own."""


def bound(metric: Metric) -> str:
    """The bounds of a metric in short."""
    if metric.ratio is not None:
        return f"maxRegression {metric.ratio.max_regression}"
    limits = (("min", metric.value.min), ("max", metric.value.max)) if metric.value else ()
    return ", ".join(f"{word} {limit}" for word, limit in limits if limit)


def samples_of(generation: ModelGeneration, metric: Metric) -> list[AnalysisSample]:
    """Samples of a metric, newest first; without those that were compared with other bounds."""
    wanted = metric.name, bound(metric)
    return [
        s for s in reversed(generation.status.rollout.analysis) if (s.metric, s.bound) == wanted
    ]


def failed_metric(seen: Observation, about: Watched) -> str:
    """Why a metric fails.

    The test of a ratio has found a regression, or a value was outside the bounds failureLimit times
    in a row: samples without a number neither count nor end the row.
    """
    analysis = seen.update.spec.rollout.analysis
    for metric in about.metrics:
        if metric.ratio is not None:
            known = comparison_of(about, metric)
            if known and has_ended(about, metric):
                return regression(about, known, metric)
            continue
        samples = [s for s in samples_of(about.generation, metric) if s.value is not None]
        row = list(takewhile(lambda s: s.verdict == FAIL, samples))
        if analysis and len(row) >= analysis.failure_limit:
            values = ", ".join(str(s.value) for s in reversed(row[: analysis.failure_limit]))
            return (
                f"metric {metric.name} is outside its bounds ({bound(metric)}) in "
                f"{analysis.failure_limit} samples in a row: {values} (rollout.analysis)"
            )
    return ""


def missing_metric(seen: Observation, about: Watched) -> str:
    """Why a metric has no number: failureLimit samples in a row had none."""
    analysis = seen.update.spec.rollout.analysis
    for metric in about.metrics:
        known = samples_of(about.generation, metric)
        row = list(takewhile(lambda s: s.value is None, known))
        if analysis and len(row) >= analysis.failure_limit:
            return (
                f"metric {metric.name} has no number in {analysis.failure_limit} samples in a row: "
                f"{row[0].message} (rollout.analysis)"
            )
    return ""


def invalid_metric(seen: Observation, about: Watched) -> str:
    """Why a query or the address must be changed: its newest sample says so."""
    analysis = seen.update.spec.rollout.analysis
    names = [metric.name for metric in analysis.metrics] if analysis else []
    for metric in about.metrics:
        newest = next(iter(samples_of(about.generation, metric)), None)
        if newest is not None and newest.verdict == ERROR:
            field = "ratio" if metric.ratio is not None else "value.query"
            return (
                f"metric {metric.name} has no number: {newest.message}; change "
                f"spec.rollout.analysis.metrics[{names.index(metric.name)}].{field} or "
                "prometheus.address"
            )
    return ""


def unproven(about: Watched) -> str:
    """The metric whose newest sample does not pass, which prolongs a bake or a step; empty: none.

    A sample of an earlier step says nothing.
    """
    for metric in about.metrics:
        newest = next(iter(samples_of(about.generation, metric)), None)
        began = about.counts_from(metric)
        if metric.ratio is not None and about.baseline and began is None:
            name = about.baseline.generation.metadata.name
            return f"metric {metric.name} waits until {name} has its share of the requests"
        if newest is None or (began and newest.time < began):
            return f"metric {metric.name} has no sample yet"
        if metric.ratio is not None and len(samples_of(about.generation, metric)) < LOOKS:
            return f"metric {metric.name} has one sample, and its test compares from the second on"
        if newest.verdict != PASS:
            shown = newest.value or newest.message
            return f"metric {metric.name}: {newest.verdict} ({shown}; {newest.bound})"
    return ""
