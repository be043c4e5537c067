"""What was measured: samples into the status, and Events where a verdict changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.update.analysis import RING
from springtide_operator.lifecycle.analysis.comparison import has_ended
from springtide_operator.lifecycle.analysis.queries import answers
from springtide_operator.lifecycle.analysis.samples import (
    ERROR,
    FAIL,
    NO_DATA,
    PASS,
    samples_of,
)
from springtide_operator.lifecycle.analysis.verdicts import measure
from springtide_operator.lifecycle.analysis.watched import IN_BAKE, IN_STEPS, watched
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.state.plan import Event, Step
from springtide_operator.lifecycle.state.recorded_times import is_ahead

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from springtide_api.generation.comparison import Comparison
    from springtide_api.generation.rollout import AnalysisSample
    from springtide_api.objects import ModelGeneration
    from springtide_api.update.analysis import Metric
    from springtide_operator.lifecycle.analysis.verdicts import Measured
    from springtide_operator.lifecycle.analysis.watched import Watched
    from springtide_operator.lifecycle.state.observation import Observation

REASONS = {
    FAIL: "MetricFailed",
    NO_DATA: "MetricWithoutData",
    ERROR: "QueryFailed",
    PASS: "MetricPassed",
}
"""Reasons of the Events about a changed verdict."""


def newest_samples(seen: Observation) -> tuple[AnalysisSample, ...]:
    """The newest sample of each metric that is queried now."""
    about = watched(seen)
    if about is None:
        return ()
    known = (samples_of(about.generation, metric) for metric in about.metrics)
    return tuple(samples[0] for samples in known if samples)


def record_samples(seen: Observation, about: Watched, now: datetime) -> Step | None:
    """Write samples that were measured since the newest in the status.

    The sample of a ratio and what its test has seen by then are one write.
    """
    generation, rollout = about.generation, about.generation.status.rollout
    names = {metric.name for metric in about.metrics}
    kept = [sample for sample in rollout.analysis if sample.metric in names]
    added: list[Measured] = []
    events: list[Event] = []
    for metric in about.metrics:
        newest = next((s for s in reversed(kept) if s.metric == metric.name), None)
        measured = _new(seen, about, metric, newest, now)
        if measured is None:
            continue
        added.append(measured)
        events += _changed_verdict(generation, newest, measured.sample)
    if not added:
        return None
    changes: dict[str, object] = {
        "analysis": [*kept, *(each.sample for each in added)][-RING:],
    }
    if about.baseline is not None:
        changes["comparisons"] = _comparisons(about, added)
    return Step(actions=(with_rollout(generation, changes),), events=tuple(events))


def _new(
    seen: Observation,
    about: Watched,
    metric: Metric,
    newest: AnalysisSample | None,
    now: datetime,
) -> Measured | None:
    """A sample of a metric that the status does not have yet.

    Args:
        seen: the update.
        about: what is watched.
        metric: the metric.
        newest: its newest sample in the status.
        now: the moment.
    """
    if has_ended(about, metric):
        return None
    given = [each for each in seen.samples if answers(seen, about, metric, each)]
    began = about.counts_from(metric)
    if not given or (began and given[0].at < began and not is_ahead(began, now)):
        return None  # of the bake that a pin ended, or before its share was seen
    if newest and given[0].at <= newest.time and not is_ahead(newest.time, now):
        return None
    return measure(about, metric, given)


def _comparisons(about: Watched, added: Sequence[Measured]) -> list[Comparison]:
    """The comparisons of the metrics of the spec in each phase, with those that went on."""
    written = [each.comparison for each in added if each.comparison]
    there = [*about.generation.status.rollout.comparisons, *written]
    known = {(each.metric, each.phase): each for each in there}
    names = [metric.name for metric in about.metrics if metric.ratio is not None]
    return [
        known[name, phase]
        for phase in (IN_STEPS, IN_BAKE)
        for name in names
        if (name, phase) in known
    ]


def _changed_verdict(
    generation: ModelGeneration, before: AnalysisSample | None, now: AnalysisSample
) -> Iterable[Event]:
    """The Event about a verdict that differs from the one before; a first Pass is none."""
    if now.verdict == (before.verdict if before else PASS):
        return ()
    name = generation.metadata.name
    shown = f"{now.value} ({now.message})" if now.value and now.message else now.value
    message = f"{name}: metric {now.metric}: {shown or now.message}, bounds: {now.bound}"
    reason = REASONS[now.verdict]
    if now.verdict == PASS:
        return (Event(reason, message, generation=name),)
    return (Event(reason, message, "Warning", generation=name),)
