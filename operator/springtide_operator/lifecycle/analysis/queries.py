"""What to measure now: the queries that are due, with their placeholders replaced.

The queries of a plan are data, like its wake-up; the reconciler asks, and the next observation
holds the samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from springtide_api.schema import duration
from springtide_operator.lifecycle.analysis.samples import metrics, samples_of
from springtide_operator.lifecycle.analysis.watched import is_unserved, watched
from springtide_operator.lifecycle.state.plan import Query
from springtide_operator.lifecycle.state.recorded_times import is_ahead

if TYPE_CHECKING:
    from datetime import datetime

    from springtide_api.update.analysis import Metric
    from springtide_operator.lifecycle.analysis.watched import Watched
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedSample


def due_queries(seen: Observation, now: datetime) -> tuple[Query, ...]:
    """The queries that are due: one interval after the start or the sample before."""
    about, analysis = watched(seen), seen.update.spec.rollout.analysis
    if about is None or analysis is None or is_unserved(seen, about.generation):
        return ()
    return tuple(
        Query(
            generation=about.generation.metadata.name,
            metric=metric.name,
            address=analysis.prometheus.address,
            expression=expression(seen, about, metric),
        )
        for metric in analysis.metrics
        if _next_query(seen, about, metric, now) <= now
    )


def next_query(seen: Observation, now: datetime) -> datetime | None:
    """When the next query is due; None: there is none."""
    about = watched(seen)
    if about is None:
        return None
    return min((_next_query(seen, about, m, now) for m in metrics(seen)), default=None)


def expression(seen: Observation, about: Watched, metric: Metric) -> str:
    """A query with its placeholders replaced."""
    names = [target.target_ref.name for target in seen.update.spec.rollout.targets]
    text = metric.value.query
    for placeholder, value in (
        ("namespace", seen.update.metadata.namespace),
        ("target", "|".join(names)),
        ("generation", str(about.generation.spec.number)),
        ("role", about.role),
    ):
        text = text.replace(f"{{{{{placeholder}}}}}", value)
    return text


def answers(seen: Observation, about: Watched, metric: Metric, measured: ObservedSample) -> bool:
    """Whether a sample is about this metric as the spec has it now."""
    asked = measured.generation, measured.metric, measured.expression
    name = about.generation.metadata.name
    return asked == (name, metric.name, expression(seen, about, metric))


def _next_query(seen: Observation, about: Watched, metric: Metric, now: datetime) -> datetime:
    analysis = seen.update.spec.rollout.analysis
    # A sample that is not written yet counts too: it must not be asked for again meanwhile.
    asked = [s.at for s in seen.samples if answers(seen, about, metric, s)]
    known = [*asked, *(s.time for s in samples_of(about.generation, metric)[:1])]
    began = max(known, default=about.began)
    if analysis is None or began is None or is_ahead(began, now):
        return now
    return began + duration(analysis.interval)
