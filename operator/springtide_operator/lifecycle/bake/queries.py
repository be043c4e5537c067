"""What to measure now, and what was measured: queries out, samples into the status.

The queries of a plan are data, like its wake-up; the reconciler asks, and the next observation
holds the samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.schema import duration
from springtide_api.update.analysis import RING
from springtide_operator.lifecycle.bake.samples import (
    ERROR,
    FAIL,
    NO_DATA,
    PASS,
    compare,
    metrics,
    samples_of,
)
from springtide_operator.lifecycle.rollout.availability import not_serving
from springtide_operator.lifecycle.rollout.rollout_status import with_rollout
from springtide_operator.lifecycle.state.plan import LIVE_ROLE, Event, Query, Step
from springtide_operator.lifecycle.state.recorded_times import is_ahead

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from springtide_api.generation.rollout import AnalysisSample
    from springtide_api.objects import ModelGeneration
    from springtide_api.update.analysis import Metric
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedSample

REASONS = {
    FAIL: "MetricFailed",
    NO_DATA: "MetricWithoutData",
    ERROR: "QueryFailed",
    PASS: "MetricPassed",
}
"""Reasons of the Events about a changed verdict."""


def due_queries(seen: Observation, now: datetime) -> tuple[Query, ...]:
    """The queries that are due: one interval after the promotion or the sample before."""
    generation, analysis = seen.lineage.baking, seen.update.spec.rollout.analysis
    if generation is None or analysis is None or is_unserved(seen, generation):
        return ()
    return tuple(
        Query(
            generation=generation.metadata.name,
            metric=metric.name,
            address=analysis.prometheus.address,
            expression=expression(seen, generation, metric),
        )
        for metric in analysis.metrics
        if _next_query(seen, generation, metric, now) <= now
    )


def is_unserved(seen: Observation, generation: ModelGeneration) -> bool:
    """Whether no target runs it, as another client set its variables: nothing is measured."""
    return len(not_serving(generation, seen.targets)) == len(seen.targets)


def next_query(seen: Observation, generation: ModelGeneration, now: datetime) -> datetime | None:
    """When the next query is due; None without metrics."""
    return min((_next_query(seen, generation, m, now) for m in metrics(seen)), default=None)


def newest_samples(seen: Observation) -> tuple[AnalysisSample, ...]:
    """The newest sample of each metric during a bake."""
    generation = seen.lineage.baking
    if generation is None:
        return ()
    known = (samples_of(generation, metric) for metric in metrics(seen))
    return tuple(samples[0] for samples in known if samples)


def expression(seen: Observation, generation: ModelGeneration, metric: Metric) -> str:
    """A query with its placeholders replaced."""
    names = [target.target_ref.name for target in seen.update.spec.rollout.targets]
    text = metric.value.query
    for placeholder, value in (
        ("namespace", seen.update.metadata.namespace),
        ("target", "|".join(names)),
        ("generation", str(generation.spec.number)),
        ("role", LIVE_ROLE),
    ):
        text = text.replace(f"{{{{{placeholder}}}}}", value)
    return text


def record_samples(seen: Observation, generation: ModelGeneration, now: datetime) -> Step | None:
    """Write samples that were measured since the newest in the status."""
    by_name = {metric.name: metric for metric in metrics(seen)}
    kept = [s for s in generation.status.rollout.analysis if s.metric in by_name]
    added: list[AnalysisSample] = []
    events: list[Event] = []
    for measured in seen.samples:
        metric = by_name.get(measured.metric)
        if metric is None or not _answers(seen, generation, metric, measured):
            continue
        began = generation.status.rollout.bake_started_at
        if began and measured.at < began and not is_ahead(began, now):
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


def _next_query(
    seen: Observation, generation: ModelGeneration, metric: Metric, now: datetime
) -> datetime:
    analysis = seen.update.spec.rollout.analysis
    # A sample that is not written yet counts too: it must not be asked for again meanwhile.
    asked = [s.at for s in seen.samples if _answers(seen, generation, metric, s)]
    known = [*asked, *(s.time for s in samples_of(generation, metric)[:1])]
    rollout = generation.status.rollout
    began = max(known, default=rollout.bake_started_at or rollout.promoted_at)
    if analysis is None or began is None or is_ahead(began, now):
        return now
    return began + duration(analysis.interval)


def _answers(
    seen: Observation, generation: ModelGeneration, metric: Metric, measured: ObservedSample
) -> bool:
    """Whether a sample is about this metric as the spec has it now."""
    asked = measured.generation, measured.metric, measured.expression
    return asked == (generation.metadata.name, metric.name, expression(seen, generation, metric))
