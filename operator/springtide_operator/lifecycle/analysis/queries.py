"""What to measure now: the queries that are due, with their placeholders replaced.

The queries of a plan are data, like its wake-up; the reconciler asks, and the next observation
holds the samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from springtide_api.schema import duration
from springtide_operator.lifecycle.analysis.comparison import has_ended
from springtide_operator.lifecycle.analysis.samples import samples_of
from springtide_operator.lifecycle.analysis.watched import is_unserved, watched
from springtide_operator.lifecycle.state.plan import LIVE_ROLE, RECHECK, Query
from springtide_operator.lifecycle.state.recorded_times import is_ahead

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

    from springtide_api.objects import ModelGeneration
    from springtide_api.update.analysis import Metric
    from springtide_operator.lifecycle.analysis.watched import Watched
    from springtide_operator.lifecycle.state.observation import Observation
    from springtide_operator.lifecycle.state.observed import ObservedSample

BAD, TOTAL = "bad", "total"
"""The two numbers of each side of a ratio metric."""


@dataclass(frozen=True)
class _Number:
    """One number of a metric."""

    part: str
    text: str
    """PromQL with placeholders."""
    generation: ModelGeneration
    role: str


def due_queries(seen: Observation, now: datetime) -> tuple[Query, ...]:
    """The queries that are due: one interval after the start or the sample before."""
    about, analysis = watched(seen), seen.update.spec.rollout.analysis
    if about is None or analysis is None:
        return ()
    if about.role == LIVE_ROLE and is_unserved(seen, about.generation):
        return ()
    return tuple(
        Query(
            generation=about.generation.metadata.name,
            metric=metric.name,
            address=analysis.prometheus.address,
            expression=_replaced(seen, number),
            part=number.part,
            at=now if number.part else None,
        )
        for metric in about.metrics
        if not has_ended(about, metric) and _next_query(seen, about, metric, now) <= now
        for number in _numbers(about, metric, now)
    )


def query_wake(seen: Observation, now: datetime) -> timedelta | None:
    """When a query is due; None: there is none."""
    if due_queries(seen, now):
        return RECHECK  # the reconciler wakes the update when it has the samples
    about = watched(seen)
    if about is None:
        return None
    asked = (m for m in about.metrics if not has_ended(about, m))
    due = (_next_query(seen, about, m, now) for m in asked)
    return min((moment - now for moment in due if moment > now), default=None)


def answers(seen: Observation, about: Watched, metric: Metric, measured: ObservedSample) -> bool:
    """Whether a sample is about this metric as the spec has it now."""
    if (measured.generation, measured.metric) != (about.generation.metadata.name, metric.name):
        return False
    return any(
        measured.expression == _replaced(seen, number)
        for number in _numbers(about, metric, measured.at)
        if number.part == measured.part
    )


def _numbers(about: Watched, metric: Metric, at: datetime) -> Sequence[_Number]:
    """What is asked for a metric at a moment."""
    generation, role, baseline = about.generation, about.role, about.baseline
    if metric.value is not None:
        return (_Number("", metric.value.query, generation, role),)
    if metric.ratio is None or baseline is None or baseline.since is None:
        return ()
    seconds = max(1, int((at - baseline.since).total_seconds()))
    bad = counted(metric.ratio.bad, seconds)
    total = counted(metric.ratio.total, seconds)
    one, other = baseline.sides
    return (
        _Number(part(one, BAD), bad, generation, role),
        _Number(part(one, TOTAL), total, generation, role),
        _Number(part(other, BAD), bad, baseline.generation, baseline.role),
        _Number(part(other, TOTAL), total, baseline.generation, baseline.role),
    )


def part(side: str, number: str) -> str:
    """The name of a number of a ratio metric, such as "canary: bad"."""
    return f"{side}: {number}"


def counted(selector: str, seconds: int) -> str:
    """PromQL for what counters were scraped to count in the last seconds.

    `increase` alone extrapolates to the edges of that time, by up to two scrapes: in simulations
    it raises the false alarms above 5 %. It serves for counters that began again at 0, as in a
    container that restarted.
    """
    each = f"{selector.strip()}[{seconds}s]"
    counted = f"max_over_time({each}) - min_over_time({each})"
    return f"sum({counted} unless resets({each}) > 0 or increase({each}))"


def _replaced(seen: Observation, number: _Number) -> str:
    """A query with its placeholders replaced."""
    names = [target.target_ref.name for target in seen.update.spec.rollout.targets]
    text = number.text
    for placeholder, value in (
        ("namespace", seen.update.metadata.namespace),
        ("target", "|".join(names)),
        ("generation", str(number.generation.spec.number)),
        ("role", number.role),
    ):
        text = text.replace(f"{{{{{placeholder}}}}}", value)
    return text


def _next_query(seen: Observation, about: Watched, metric: Metric, now: datetime) -> datetime:
    analysis = seen.update.spec.rollout.analysis
    # A sample that is not written yet counts too: it must not be asked for again meanwhile.
    asked = [s.at for s in seen.samples if answers(seen, about, metric, s)]
    known = [*asked, *(s.time for s in samples_of(about.generation, metric)[:1])]
    counts_from = about.counts_from(metric)
    known += [counts_from] if counts_from else []
    began = max((moment for moment in known if not is_ahead(moment, now)), default=None)
    if analysis is None or began is None:
        return now
    return began + duration(analysis.interval)
