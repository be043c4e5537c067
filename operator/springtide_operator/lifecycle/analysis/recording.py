"""What was measured: samples into the status, and Events where a verdict changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.update.analysis import RING
from springtide_operator.lifecycle.analysis.queries import answers
from springtide_operator.lifecycle.analysis.samples import (
    ERROR,
    FAIL,
    NO_DATA,
    PASS,
    compare,
    metrics,
    samples_of,
)
from springtide_operator.lifecycle.analysis.watched import watched
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.state.plan import Event, Step
from springtide_operator.lifecycle.state.recorded_times import is_ahead

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from springtide_api.generation.rollout import AnalysisSample
    from springtide_api.objects import ModelGeneration
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
    known = (samples_of(about.generation, metric) for metric in metrics(seen))
    return tuple(samples[0] for samples in known if samples)


def record_samples(seen: Observation, about: Watched, now: datetime) -> Step | None:
    """Write samples that were measured since the newest in the status."""
    generation, by_name = about.generation, {metric.name: metric for metric in metrics(seen)}
    kept = [s for s in generation.status.rollout.analysis if s.metric in by_name]
    added: list[AnalysisSample] = []
    events: list[Event] = []
    for measured in seen.samples:
        metric = by_name.get(measured.metric)
        if metric is None or not answers(seen, about, metric, measured):
            continue
        if about.began and measured.at < about.began and not is_ahead(about.began, now):
            continue  # of the bake that a pin ended
        newest = next((s for s in reversed(kept) if s.metric == metric.name), None)
        if newest and measured.at <= newest.time and not is_ahead(newest.time, now):
            continue
        sample = compare(metric, measured)
        added.append(sample)
        events += _changed_verdict(generation, newest, sample)
    if not added:
        return None
    ring = [*kept, *added][-RING:]
    return Step(actions=(with_rollout(generation, {"analysis": ring}),), events=tuple(events))


def _changed_verdict(
    generation: ModelGeneration, before: AnalysisSample | None, now: AnalysisSample
) -> Iterable[Event]:
    """The Event about a verdict that differs from the one before; a first Pass is none."""
    if now.verdict == (before.verdict if before else PASS):
        return ()
    name, shown = generation.metadata.name, now.value or now.message
    message = f"{name}: metric {now.metric}: {shown}, bounds: {now.bound}"
    reason = REASONS[now.verdict]
    if now.verdict == PASS:
        return (Event(reason, message, generation=name),)
    return (Event(reason, message, "Warning", generation=name),)
